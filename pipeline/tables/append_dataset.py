"""Rows -> date=YYYY-MM-DD/part-NNNNN.parquet (or .csv): few files, each whole at any instant, none with a row twice.

The part that is still open is written whole and renamed over itself until it is full or its day is over. What has a
row is learned from the parts themselves, so that a killed process costs nothing but labelling again what had none.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path

from models.system.atomic_file import sync_folder
from pipeline.errors import LabelDirError
from pipeline.records import FileRef, Row
from pipeline.tables.arrow import pa, pc
from pipeline.tables.growing_part import GrowingPart
from pipeline.tables.reader import previous_table, refuse_foreign
from pipeline.tables.row_index import Entry, PartStamp, RowIndex, entry_of, identity_of
from pipeline.tables.schema import schema, to_batch

logger = logging.getLogger(__name__)

ROWS_PER_PART = 50_000
STATE_FOLDER = ".watch-folder"
FORMATS = ("parquet", "csv")
_PART_NAME = re.compile(r"part-(\d+)\.(parquet|csv)")
_DAY_US = 86_400_000_000


class AppendDataset:
    """The labels in `folder`; one writer at a time, which its caller sees to."""

    def __init__(self, folder: Path, part_format: str, top_k: int, rows_per_part: int = ROWS_PER_PART) -> None:
        self._folder = folder
        self._suffix = f".{part_format}"
        self._top_k = top_k
        self._rows_per_part = rows_per_part
        self._open: GrowingPart | None = None
        self._pending: list[Row] = []
        self._durable: list[Row] = []
        self._unrecorded: list[tuple[Path, list[Entry]]] = []
        self._recent: dict[str, list[Entry]] = {}
        self._row_index = RowIndex(folder / STATE_FOLDER / "index.sqlite")
        self._recover()

    def close(self) -> None:
        """Let go of the index; rows that were not committed are forgotten."""
        self._row_index.close()

    @property
    def pending(self) -> int:
        """How many rows the next commit is to return: those that are not durable and in the index yet."""
        return len(self._pending) + len(self._durable)

    def find(self, refs: Sequence[FileRef]) -> dict[str, Entry]:
        """Return the entries of those files that have a row, durable or not, and did not change since; by name."""
        found = self._row_index.find(refs)
        for ref in refs:
            for entry in self._recent.get(ref.name, ()):
                if (entry.size_bytes, entry.mtime_us) == (ref.size_bytes, ref.mtime_us):
                    found[ref.name] = entry
        return found

    def is_durable(self, entry: Entry) -> bool:
        """Tell whether a row that was found is in a part already."""
        return entry not in self._recent.get(entry.name, ())

    def add(self, row: Row) -> bool:
        """Take a row; False, and nothing is taken, where this content has its row under this name already."""
        entry = entry_of(row)
        if any(known.identity == entry.identity for known in self._recent.get(entry.name, ())):
            return False
        if self._row_index.has(entry):
            self._row_index.touched(entry)
            return False
        self._pending.append(row)
        self._recent.setdefault(entry.name, []).append(entry)
        return True

    def commit(self) -> list[Row]:
        """Make the rows taken so far durable and readable; returns them. What could not be written stays for later.

        Raises:
            OSError: a part or the index cannot be written.
        """
        while self._pending:
            day = _day(self._pending[0].labelled_at_us)
            part = self._part_for(day)
            room = self._rows_per_part - part.rows
            rows = list(islice(_of_first_day(self._pending), room))
            part.append(to_batch(rows, self._top_k))
            self._unrecorded.append((part.path, [entry_of(row) for row in rows]))
            self._durable += rows
            del self._pending[: len(rows)]
        self._record()
        committed, self._durable = self._durable, []
        return committed

    def _record(self) -> None:
        while self._unrecorded:
            path, entries = self._unrecorded[0]
            self._row_index.record(self._stamp(path), entries)
            del self._unrecorded[0]
        self._recent = {}
        if self._open is not None and self._open.rows >= self._rows_per_part:
            self._open = None

    def _part_for(self, day: str) -> GrowingPart:
        """Return the part of `day` that has room: the open one, the last one on disk, or a new one."""
        folder = self._folder / f"date={day}"
        if not folder.is_dir():
            folder.mkdir()
            sync_folder(self._folder)
        if self._open is not None and self._open.path.parent == folder and self._open.rows < self._rows_per_part:
            return self._open
        numbers = [int(match[1]) for match in map(_PART_NAME.fullmatch, _names(folder)) if match]
        last = max(numbers, default=0)
        path = folder / f"part-{last:05d}{self._suffix}"
        rows = self._reopened(path) if last else None
        if rows is None:
            path = folder / f"part-{last + 1:05d}{self._suffix}"
        self._open = GrowingPart(path, self._top_k, rows)
        return self._open

    def _reopened(self, path: Path) -> pa.Table | None:
        """Return the rows of a part that can take more; None where it is full, or of another format or width."""
        try:
            if refuse_foreign(path) != self._top_k:
                return None
            part = previous_table(path, self._top_k)
        except LabelDirError:
            return None
        rows = pa.Table.from_batches([] if part is None else part.batches(), schema(self._top_k))
        return rows if rows.num_rows < self._rows_per_part else None

    def _recover(self) -> None:
        """Bring the index up to date with the parts; what a killed writer left unfinished goes."""
        for leftover in self._folder.glob("date=*/.part-*.tmp"):
            leftover.unlink()
        present = {stamp.path: stamp for stamp in map(self._stamp, self._parts())}
        known = self._row_index.parts()
        if any(stamp.path not in present for stamp in known):
            logger.warning("parts of the labels were removed; photos that had their rows there count as new")
            self._row_index.forget_everything()
            known = set()
        for stamp in present.values():
            if stamp not in known and not self._learn(stamp) and any(other.path == stamp.path for other in known):
                # What it held is in the index, and no longer true.
                self._recover()
                return

    def _parts(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("date=*/part-*") if _PART_NAME.fullmatch(path.name))

    def _learn(self, stamp: PartStamp) -> bool:
        path = self._folder / stamp.path
        try:
            self._row_index.record(stamp, _entries(path))
        except LabelDirError as error:
            logger.warning("%s; it is set aside, and its photos are labelled again where they still are", error)
            path.replace(path.with_name(f".{path.name}.damaged"))
            return False
        return True

    def _stamp(self, path: Path) -> PartStamp:
        facts = path.stat()
        return PartStamp(str(path.relative_to(self._folder)), facts.st_size, facts.st_mtime_ns)


def _entries(path: Path) -> Iterator[Entry]:
    top_k = refuse_foreign(path)
    part = None if top_k is None else previous_table(path, top_k)
    for batch in part.batches() if part else ():
        columns = ("file_name", "sha256", "error", "size_bytes")
        times = pc.cast(batch.column("mtime"), pa.int64()).to_pylist()
        for name, sha256, error, size_bytes, mtime_us in zip(
            *(batch.column(column).to_pylist() for column in columns), times, strict=True
        ):
            yield Entry(name, identity_of(sha256, error, size_bytes), size_bytes, mtime_us)


def _of_first_day(rows: Sequence[Row]) -> Iterator[Row]:
    first_day = _day(rows[0].labelled_at_us)
    return takewhile(lambda row: _day(row.labelled_at_us) == first_day, rows)


def _day(time_us: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=time_us // _DAY_US)).isoformat()


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
