"""Durable parts in a hidden folder beside the output, and what a dead run left there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.durable import replacing
from pipeline.merge import SortedTable
from pipeline.records import Row
from pipeline.table import schema, to_batch

logger = logging.getLogger(__name__)

ROWS_PER_PART = 8192
SECONDS_PER_PART = 10.0
_FIRST_NAME_KEY = b"label_dir_first_name"
# Lies beside the parts of a run that labels everything anew, from its beginning to its end.
_ANEW = "anew"


def state_folder(out: Path) -> Path:
    """Return the hidden folder that belongs to `out`: its lock and its parts."""
    return out.with_name(f".{out.name}.label-dir")


class Store:
    """Rows on their way to the output; after `commit` they survive a loss of power."""

    def __init__(self, folder: Path, top_k: int) -> None:
        self._folder = folder
        self._top_k = top_k
        self._rows: list[Row] = []
        self._written: list[Path] = []
        self._committed_at_s = time.monotonic()
        self._generation = 0

    def adopt(self) -> list[SortedTable]:
        """Return the parts a run left here; one that is damaged or of another schema is set aside.

        Raises:
            OSError: the folder cannot be read or written.
        """
        parts: list[SortedTable] = []
        for path in sorted(self._folder.glob("part-*.parquet")):
            number = path.stem.removeprefix("part-")
            if number.isdecimal():
                self._generation = max(self._generation, int(number))
            part = self._verified(path)
            if part is None:
                logger.warning("a part of an earlier run is damaged and set aside; its photos are labelled again")
                path.replace(path.with_suffix(".damaged"))
            else:
                parts.append(part)
        for leftover in self._folder.glob(".*.tmp"):
            leftover.unlink()
        return parts

    def begin_anew(self) -> bool:
        """Start a run that keeps nothing of the output; False where such a run was cut short and its parts hold.

        Raises:
            OSError: the folder cannot be written.
        """
        mark = self._folder / _ANEW
        if mark.exists():
            return False
        self.discard()
        with replacing(mark):
            pass
        return True

    def add(self, row: Row) -> None:
        """Take a row; commits by itself every 8,192 rows or 10 s."""
        self._rows.append(row)
        if len(self._rows) >= ROWS_PER_PART or time.monotonic() - self._committed_at_s > SECONDS_PER_PART:
            self.commit()

    def commit(self) -> None:
        """Make the rows taken so far durable, as one part.

        Raises:
            OSError: the part cannot be written.
        """
        self._committed_at_s = time.monotonic()
        if not self._rows:
            return
        batch = to_batch(self._rows, self._top_k)
        first_name = batch.column("file_name")[0].as_py()
        metadata = {**(batch.schema.metadata or {}), _FIRST_NAME_KEY: first_name.encode()}
        self._generation += 1
        path = self._folder / f"part-{self._generation:08d}.parquet"
        with replacing(path) as stream:
            table = pa.Table.from_batches([batch]).replace_schema_metadata(metadata)
            pq.write_table(table, stream, write_page_checksum=True)
        self._written.append(path)
        self._rows = []

    def written(self) -> list[SortedTable]:
        """Return the parts this run has committed, oldest first."""
        return [_part(path) for path in self._written]

    def discard(self) -> None:
        """Remove the parts: their rows are in the output."""
        for path in [*self._folder.glob("part-*"), *self._folder.glob(".*.tmp"), self._folder / _ANEW]:
            path.unlink(missing_ok=True)

    def _verified(self, path: Path) -> SortedTable | None:
        try:
            table = pq.read_table(path, page_checksum_verification=True, use_threads=False)
            part = _part(path)
        except (OSError, pa.ArrowException, KeyError, ValueError, UnicodeDecodeError):
            return None
        return part if table.schema.equals(schema(self._top_k)) else None


def _part(path: Path) -> SortedTable:
    metadata = pq.read_schema(path).metadata or {}
    return SortedTable(int(path.stem.removeprefix("part-")), metadata[_FIRST_NAME_KEY].decode(), lambda: _stream(path))


def _stream(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield from file.iter_batches(ROWS_PER_PART, use_threads=False)
