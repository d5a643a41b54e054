"""Durable parts in a hidden folder beside the output, and the parts that an interrupted run left there."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

from models.system.atomic_file import replacing
from pipeline.records import Row
from pipeline.sources.file_names import display_name
from pipeline.system.file_lock import StateFolder
from pipeline.system.ownership import Owner
from pipeline.tables.arrow import arrow_file, pa, pq
from pipeline.tables.merge import SortedTable
from pipeline.tables.schema import ETAG, schema, to_batch
from pipeline.tables.source import TableSource, parsed_source, source_metadata

logger = logging.getLogger(__name__)

ROWS_PER_PART = 8192
SECONDS_PER_PART = 10.0
_FIRST_NAME_KEY = b"label_dir_first_name"
# Number, and the beginning of the sha256 of the bytes: Parquet's own checksums leave headers and footer out.
_PART_NAME = re.compile(r"part-(\d+)-([0-9a-f]{16})\.parquet")
# An empty file beside the parts of a run that labels everything again, from its beginning to its end.
_FRESH_MARK = "anew"


def state_folder(out: Path) -> Path:
    """Return the hidden folder that belongs to `out`: its lock and its parts."""
    return out.with_name(f".{out.name}.label-dir")


def state_of(out: Path) -> StateFolder:
    """Return the state folder of the table `out`, to be held while `out` is written.

    The marker holds the table's name and not the whole path, so that an interrupted run goes on after a move.
    """
    return StateFolder(state_folder(out), Owner("state of a table", display_name(out.name)), _is_state)


def _is_state(name: str) -> bool:
    return name.startswith("part-") or name == _FRESH_MARK or (name[0] == "." and name.endswith(".tmp"))


class PartStore:
    """Rows on their way to the output; after `commit` they survive a loss of power.

    With `has_etag` the rows are of objects in a store, and their ETags are kept.
    """

    def __init__(self, folder: Path, top_k: int, source: TableSource | None = None, has_etag: bool = False) -> None:
        self._folder = folder
        self._source = source
        self._top_k = top_k
        self._has_etag = has_etag
        self._rows: list[Row] = []
        self._committed: list[Path] = []
        self._committed_at_s = time.monotonic()
        self._generation = 0
        # The folder whose photos an interrupted run labelled, if `recover` found parts of such a run.
        self.recovered_source: TableSource | None = None

    def recover(self) -> list[SortedTable]:
        """Return the parts that an interrupted run left here; a part that is damaged or of another schema is set aside.

        Raises:
            OSError: the folder cannot be read or written.
        """
        parts: list[SortedTable] = []
        for path in sorted(self._folder.glob("part-*.parquet")):
            part = self._verified(path)
            if part is None:
                logger.warning("a part of an earlier run is damaged and set aside; its photos are labelled again")
                path.replace(path.with_suffix(".damaged"))
            else:
                parts.append(part)
                self.recovered_source = (
                    parsed_source(pq.read_schema(arrow_file(path)).metadata) or self.recovered_source
                )
        self._generation = max((part.generation for part in parts), default=0)
        for leftover in self._folder.glob(".*.tmp"):
            leftover.unlink()
        return parts

    def start_fresh(self) -> bool:
        """Discard all parts for a run that labels everything again.

        Returns False, and discards nothing, where such a run was interrupted: its parts are then still to be used.

        Raises:
            OSError: the folder cannot be written.
        """
        mark = self._folder / _FRESH_MARK
        if mark.exists():
            return False
        self.discard()
        with replacing(mark):
            pass
        return True

    def add(self, row: Row) -> None:
        """Take a row, to be committed as soon as `is_due`."""
        self._rows.append(row)

    def drop(self) -> None:
        """Let go of the rows that were taken since the last commit."""
        self._rows = []

    @property
    def is_due(self) -> bool:
        """Whether the rows taken are to be committed now: 8,192 of them, or the last commit is 10 s ago."""
        count = len(self._rows)
        return count >= ROWS_PER_PART or (count > 0 and time.monotonic() - self._committed_at_s > SECONDS_PER_PART)

    def commit(self) -> None:
        """Make the rows taken so far durable, as one part.

        Raises:
            OSError: the part cannot be written.
        """
        self._committed_at_s = time.monotonic()
        if not self._rows:
            return
        batch = to_batch(self._rows, self._top_k, self._has_etag)
        first_name = batch.column("file_name")[0].as_py()
        source = source_metadata(self._source) if self._source else {}
        metadata = {**(batch.schema.metadata or {}), **source, _FIRST_NAME_KEY: first_name.encode()}
        self._generation += 1
        stream = pa.BufferOutputStream()
        table = pa.Table.from_batches([batch]).replace_schema_metadata(metadata)
        pq.write_table(table, stream, write_page_checksum=True)
        content = stream.getvalue()
        path = self._folder / f"part-{self._generation:08d}-{_digest(content)}.parquet"
        with replacing(path) as file:
            file.write(content)
        self._committed.append(path)
        self._rows = []

    def committed(self) -> list[SortedTable]:
        """Return the parts that this run has committed, oldest first."""
        return [_part(path) for path in self._committed]

    def discard(self) -> None:
        """Remove the parts: their rows are in the output, or are not wanted."""
        for path in [*self._folder.glob("part-*"), *self._folder.glob(".*.tmp"), self._folder / _FRESH_MARK]:
            path.unlink(missing_ok=True)

    def _verified(self, path: Path) -> SortedTable | None:
        """Return the part at `path`; None where its bytes are not exactly those that `commit` wrote."""
        name = _PART_NAME.fullmatch(path.name)
        # A part that cannot be read now is no damaged part: its error ends the run.
        if name is None or name[2] != _digest(path.read_bytes()):
            return None
        try:
            found = pq.read_schema(arrow_file(path))
            wanted = schema(self._top_k, [ETAG] if self._has_etag else [])
            is_ours = found.equals(wanted) and _FIRST_NAME_KEY in (found.metadata or {})
            return _part(path) if is_ours else None
        except (pa.ArrowException, UnicodeDecodeError):
            return None
        except OSError as error:
            # Arrow reports damage that its Thrift reader finds as an error of the system, without a number.
            if error.errno is not None:
                raise
            return None


def _digest(content: bytes | pa.Buffer) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _part(path: Path) -> SortedTable:
    metadata = pq.read_schema(arrow_file(path)).metadata or {}
    generation = int(path.name.split("-")[1])
    return SortedTable(generation, metadata[_FIRST_NAME_KEY].decode(), lambda: read_parquet(path))


def read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    """Stream a Parquet file in batches of 8,192 rows, its page checksums verified.

    Raises:
        OSError: the file cannot be read.
        pa.ArrowException: the file is damaged.
    """
    with pq.ParquetFile(arrow_file(path), page_checksum_verification=True) as file:
        yield from file.iter_batches(ROWS_PER_PART, use_threads=False)
