"""One sorted table -> a folder of `date=YYYY-MM-DD` partitions, of which only the changed ones are written."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.system.atomic_file import replacing, sync_folder
from models.system.outside_text import terminal_text
from pipeline.errors import UsageError
from pipeline.tables.arrow import arrow_file, pa, pa_csv, pc, pq
from pipeline.tables.source import TableSource, parsed_source, source_metadata

PARTITION_FILE = "labels.parquet"
_PREFIX = "date="
_DIGEST_KEY = b"label_dir_rows"
_DAY = "%Y-%m-%d"
_DAY_TYPE = "<U10"

Days = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Published:
    """Counts of a `publish`: partitions written, unchanged and removed; rows left out because they are too old."""

    written: int
    unchanged: int
    removed: int
    pruned_rows: int


def days_by_time(rows: pa.Table, column: str) -> Days:
    """Return the UTC day, `YYYY-MM-DD`, of each row's `column` (`mtime` or `labelled_at`)."""
    return pc.strftime(rows.column(column), _DAY).to_numpy().astype(_DAY_TYPE)


def days_by_exif(rows: pa.Table, taken: Mapping[str, str | None]) -> Days:
    """Return the day each row's photo was taken, by its sha256 in `taken`; without such a day, the day of mtime."""
    days = days_by_time(rows, "mtime")
    for index, sha256 in enumerate(rows.column("sha256").to_pylist()):
        if day := taken.get(sha256 or ""):
            days[index] = day
    return days


def publish(rows: pa.Table, days: Days, folder: Path, keep_since: str | None, source: TableSource) -> Published:
    """Make the partitions below `folder` those of `rows`, of which `days` has the days; drop days before `keep_since`.

    Each file is replaced in one step, and only where its rows have changed. The files record `source`, the folder of
    the photos; nothing is changed where a partition is of another source or of another program.

    Raises:
        UsageError: a partition that would be replaced, removed or read with the others is not of this dataset.
        OSError: a partition cannot be written or removed.
    """
    present = sorted(folder.glob(f"{_PREFIX}*"))
    digests = {found.name: _own_digest(found / PARTITION_FILE, source) for found in present}
    count = rows.num_rows
    if keep_since is not None:
        is_kept = days >= keep_since
        rows, days = rows.filter(pa.array(is_kept)), days[is_kept]
    written = unchanged = 0
    names: set[str] = set()
    for day, partition in _by_day(rows, days):
        path = folder / f"{_PREFIX}{day}" / PARTITION_FILE
        names.add(path.parent.name)
        digest = _digest(partition)
        if digests.get(path.parent.name) == digest:
            unchanged += 1
            continue
        _write(partition, digest, source, path)
        written += 1
    removed = sum(_remove(found) for found in present if found.name not in names)
    if written or removed:
        sync_folder(folder)
    return Published(written, unchanged, removed, count - rows.num_rows)


def _by_day(rows: pa.Table, days: Days) -> Iterator[tuple[str, pa.Table]]:
    """Yield each day with its rows, sorted by name as before."""
    order = np.argsort(days, kind="stable")
    ordered = rows.take(order)
    names, counts = np.unique(days, return_counts=True)
    begin = 0
    for day, count in zip(names.tolist(), counts.tolist(), strict=True):
        yield day, ordered.slice(begin, count)
        begin += count


def _digest(partition: pa.Table) -> bytes:
    """Return a digest of all columns but `labelled_at`: rows labelled again with the same result are the same rows."""
    stream = pa.BufferOutputStream()
    # As text: the same cells may lie in different buffers, with or without a bitmap of nulls.
    pa_csv.write_csv(partition.drop_columns(["labelled_at"]), stream)
    return hashlib.sha256(stream.getvalue()).hexdigest().encode()


def _own_digest(path: Path, source: TableSource) -> bytes | None:
    """Return the digest that a partition of this dataset records; None where there is no file.

    A partition that records no source is of an earlier version, and so of this dataset.
    """
    try:
        metadata = pq.read_metadata(arrow_file(path)).metadata or {}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except pa.ArrowException:
        metadata = {}
    digest: bytes | None = metadata.get(_DIGEST_KEY)
    recorded = parsed_source(metadata)
    shown = terminal_text(str(path))
    if digest is None:
        raise UsageError(f"{shown} is not a partition of label-dir, or is damaged; move it away")
    if recorded is not None and not recorded.is_same_folder(source):
        other, this = terminal_text(recorded.photos), terminal_text(source.photos)
        raise UsageError(f"{shown} holds the labels of {other}, not of {this}; choose another output, or move it away")
    return digest


def _write(partition: pa.Table, digest: bytes, source: TableSource, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    metadata = {**(partition.schema.metadata or {}), **source_metadata(source), _DIGEST_KEY: digest}
    with replacing(path) as stream:
        pq.write_table(partition.replace_schema_metadata(metadata), stream, write_page_checksum=True)


def _remove(folder: Path) -> bool:
    """Remove a partition of label-dir and, if it is empty then, its folder; other people's files stay."""
    try:
        (folder / PARTITION_FILE).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    with contextlib.suppress(OSError):
        folder.rmdir()
    return True
