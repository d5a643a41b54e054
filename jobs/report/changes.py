"""What changed in a table between two reports; the rows of the last report are kept in a file beside the page."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.system.atomic_file import replacing
from pipeline.tables.arrow import arrow_file, pa, pq

_LISTED = 200
_COLUMNS = ("file_name", "status", "label_1")
_ROWS = pa.schema([(name, pa.string()) for name in _COLUMNS])
_KEY = b"label_dir_report"
# The year 5138.
_LATEST_S = 10**11


@dataclass(frozen=True, slots=True)
class Changes:
    """How a table differs from that of `since_s` (seconds since 1970); each list holds at most 200 names.

    `relabelled` holds name, label before, label now.
    """

    since_s: int
    added_count: int
    gone_count: int
    relabelled_count: int
    newly_failed_count: int
    recovered_count: int
    added: list[str]
    gone: list[str]
    relabelled: list[tuple[str, str, str]]
    newly_failed: list[str]


@dataclass(frozen=True, slots=True)
class _LastReport:
    digest: str
    written_at_s: int
    changes: Changes | None
    rows: pa.Table


def memory_path(report: Path) -> Path:
    """Return the file that keeps the rows of a report for the next report."""
    return report.with_name(f".{report.name}.rows.parquet")


def changes_since_last(rows: pa.Table, memory: Path) -> Changes | None:
    """Compare `rows` with those in file `memory`, then write `rows` there; None for a first report.

    A second report of the same rows has the same changes. Raises OSError.
    """
    current = rows.select(list(_COLUMNS)).combine_chunks()
    digest = _digest(current)
    last = _last_report(memory)
    if last is not None and last.digest == digest:
        return last.changes
    changes = None if last is None else _compared(last, current)
    note = {"digest": digest, "written_at_s": int(time.time()), "changes": asdict(changes) if changes else None}
    with replacing(memory) as stream:
        pq.write_table(current.replace_schema_metadata({_KEY: json.dumps(note).encode()}), stream)
    return changes


def _compared(last: _LastReport, current: pa.Table) -> Changes:
    before, now = _states(last.rows), _states(current)
    added = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    both = [(name, before[name], state) for name, state in now.items() if name in before]
    relabelled = [(name, str(old), str(new)) for name, old, new in both if old and new and old != new]
    newly_failed = [name for name, state in now.items() if state is None and before.get(name, "") is not None]
    return Changes(
        since_s=last.written_at_s,
        added_count=len(added),
        gone_count=len(gone),
        relabelled_count=len(relabelled),
        newly_failed_count=len(newly_failed),
        recovered_count=sum(old is None and new is not None for _, old, new in both),
        added=added[:_LISTED],
        gone=gone[:_LISTED],
        relabelled=relabelled[:_LISTED],
        newly_failed=newly_failed[:_LISTED],
    )


def _states(rows: pa.Table) -> dict[str, str | None]:
    """Return the label of each name, None where the photo failed."""
    names, statuses, labels = (rows.column(name).to_pylist() for name in _COLUMNS)
    return {
        str(name): str(label) if status != "error" else None
        for name, status, label in zip(names, statuses, labels, strict=True)
    }


def _digest(rows: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in _COLUMNS:
        digest.update(json.dumps(rows.column(name).to_pylist()).encode())
    return digest.hexdigest()


def _last_report(memory: Path) -> _LastReport | None:
    """Return what the last page was of; None where nothing is kept, or nothing that a page could show."""
    try:
        table = pq.read_table(arrow_file(memory))
        note = json.loads((table.schema.metadata or {})[_KEY])
        changes = _known_changes(note["changes"]) if note["changes"] else None
        rows = table.select(list(_COLUMNS)).cast(_ROWS)
        rows.validate(full=True)
        return _LastReport(str(note["digest"]), _time(note["written_at_s"]), changes, rows)
    except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _known_changes(kept: dict[str, Any]) -> Changes:
    """Return the changes that a note holds. Raises errors of any of the classes above for anything else."""
    # JSON can hold half a surrogate pair, which no page can.
    json.dumps(kept, ensure_ascii=False).encode()
    counts = {name: value for name, value in kept.items() if name.endswith("_count")}
    names = {name: kept[name] for name in ("added", "gone", "newly_failed")}
    relabelled = [tuple(entry) for entry in kept["relabelled"]]
    texts = [text for listed in (*names.values(), *relabelled) for text in listed]
    if not all(type(count) is int for count in counts.values()) or not all(isinstance(text, str) for text in texts):
        raise ValueError("no counts and names")
    if any(len(entry) != 3 for entry in relabelled) or not all(isinstance(listed, list) for listed in names.values()):
        raise ValueError("no lists of changes")
    return Changes(_time(kept["since_s"]), **counts, **names, relabelled=relabelled)


def _time(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LATEST_S:
        raise ValueError("no time that a page could show")
    return value
