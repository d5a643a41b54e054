"""Rows -> date=YYYY-MM-DD/part-NNNNN.parquet (or .csv): few files, each whole at any instant, none with a row twice.

The open part is written whole and renamed over itself until the part is full or its day is over. The index of rows is
derived from the parts themselves, so that after a crash only the photos without a row are labelled again.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from models.system.atomic_file import sync_folder
from pipeline.datasets.growing_part import GrowingPart, is_as_written, rows_of_part
from pipeline.datasets.row_index import Entry, PartStamp, RowIndex, identity_of
from pipeline.errors import OutputError, UsageError
from pipeline.records import FileRef, Row
from pipeline.tables.arrow import pa
from pipeline.tables.part_store import state_folder
from pipeline.tables.reader import top_k_of_rows
from pipeline.tables.schema import to_batch

logger = logging.getLogger(__name__)

ROWS_PER_PART = 50_000
INDEX_NAME = "index.sqlite"
_LEFTOVER_NAME = re.compile(r"\.part-.*\.tmp")
_PART_NAME = re.compile(r"part-(\d+)\.(parquet|csv)")
_DAY_US = 86_400_000_000


class CommittedRow(NamedTuple):
    """A row and its entry in the index."""

    row: Row
    entry: Entry


class AppendDataset:
    """The labels in `folder`; the caller holds the lock of `state_folder`, so that there is one writer at a time.

    Raises:
        UsageError: the labels have another number of labels for each photo, or a part is not ours.
        OSError: a part or the index cannot be read or written.
    """

    def __init__(self, folder: Path, part_format: str, top_k: int, rows_per_part: int = ROWS_PER_PART) -> None:
        self._folder = folder
        self._suffix = f".{part_format}"
        self._top_k = top_k
        self._rows_per_part = rows_per_part
        self._open: GrowingPart | None = None
        self._pending: list[CommittedRow] = []
        self._durable: list[CommittedRow] = []
        self._unrecorded: list[tuple[Path, list[Entry]]] = []
        self._recent: dict[str, list[Entry]] = {}
        self._row_index = RowIndex(state_folder(folder.resolve()) / INDEX_NAME)
        try:
            self._recover()
            self._refuse_another_width()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the index; rows that were not committed are discarded."""
        self._row_index.close()

    @property
    def pending(self) -> int:
        """How many rows the next commit returns: those not yet both durable and in the index."""
        return len(self._pending) + len(self._durable)

    def find(self, refs: Sequence[FileRef]) -> dict[str, Entry]:
        """Return, by name, the entries of those files that have a row, durable or not, and did not change since."""
        found = self._row_index.find(refs)
        for ref in refs:
            for entry in self._recent.get(ref.name, ()):
                if entry.is_of(ref):
                    found[ref.name] = entry
        return found

    def is_durable(self, entry: Entry) -> bool:
        """Tell whether the row of an entry from `find` is in a part already."""
        return entry not in self._recent.get(entry.name, ())

    def distrust(self, entry: Entry) -> None:
        """Note that the file that `find` took for that of `entry` has other bytes, and needs a row of its own.

        Raises:
            OSError: the index cannot be written.
        """
        self._row_index.distrust(entry)

    def add(self, row: Row, entry: Entry) -> bool:
        """Take a row; return False, and take nothing, where this content has its row under this name already.

        Raises:
            OSError: the index cannot be read or written.
        """
        if any(known.identity == entry.identity for known in self._recent.get(entry.name, ())):
            return False
        if self._row_index.contains(entry):
            self._row_index.update_stat([entry])
            return False
        self._pending.append(CommittedRow(row, entry))
        self._recent.setdefault(entry.name, []).append(entry)
        return True

    def commit(self) -> list[CommittedRow]:
        """Make the rows taken so far durable and readable, and return them; after an error the next commit retries.

        Raises:
            OSError: a part or the index cannot be written.
        """
        while self._pending:
            day, rows_of_day = next(groupby(self._pending, lambda pending: _day_of(pending.row)))
            part = self._part_for(day)
            rows = list(islice(rows_of_day, self._rows_per_part - part.rows))
            part.append(to_batch([pending.row for pending in rows], self._top_k))
            self._unrecorded.append((part.path, [pending.entry for pending in rows]))
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
        """Return the part of `day` that takes more rows: the open part, the last part on disk, or a new part."""
        folder = self._folder / f"date={day}"
        if not folder.is_dir():
            folder.mkdir()
            sync_folder(self._folder)
        if self._open is not None and self._open.path.parent == folder and self._open.rows < self._rows_per_part:
            return self._open
        matches = (_PART_NAME.fullmatch(path.name) for path in folder.iterdir())
        last = max((int(match[1]) for match in matches if match), default=0)
        path = folder / f"part-{last:05d}{self._suffix}"
        rows = self._reopened(path) if last else None
        if rows is None:
            path = folder / f"part-{last + 1:05d}{self._suffix}"
        self._open = GrowingPart(path, self._top_k, rows)
        return self._open

    def _reopened(self, path: Path) -> pa.Table | None:
        """Return the rows of a part that can take more; None for a part that is full, damaged or of another width.

        A part that another program saved again, with columns of its own, is left as it is.
        """
        if not path.exists() or not is_as_written(path):
            return None
        rows = rows_of_part(path)
        if rows is None:
            return None
        return rows if top_k_of_rows(rows) == self._top_k and rows.num_rows < self._rows_per_part else None

    def _recover(self) -> None:
        """Bring the index up to date with the parts, and remove the temporary files that a killed writer left."""
        for leftover in self._listed(_LEFTOVER_NAME):
            leftover.unlink()
        present = {stamp.path: stamp for stamp in map(self._stamp, self._parts())}
        known = self._row_index.parts()
        if known and not any(stamp.path in present for stamp in known):
            raise OutputError(
                f"{self._folder} holds none of the {len(known)} parts that were written there; is another disk to be "
                f"mounted? If they were removed on purpose, remove {self._folder} as well"
            )
        if any(stamp.path not in present for stamp in known):
            logger.warning("parts of the labels were removed; photos that had their rows there count as new")
            self._row_index.clear()
            known = set()
        if not all(stamp in known or self._index(stamp) for stamp in present.values()):
            # The index still has rows that are gone.
            self._row_index.clear()
            self._recover()

    def _parts(self) -> list[Path]:
        return sorted(self._listed(_PART_NAME))

    def _listed(self, name: re.Pattern[str]) -> list[Path]:
        days = [path for path in self._folder.iterdir() if path.name.startswith("date=") and path.is_dir()]
        # Not by a glob, for which a folder that cannot be read is an empty one.
        return [path for day in days for path in day.iterdir() if name.fullmatch(path.name)]

    def _refuse_another_width(self) -> None:
        newest = rows_of_part(self._parts()[-1]) if self._parts() else None
        if newest is not None and top_k_of_rows(newest) != self._top_k:
            found = top_k_of_rows(newest)
            raise UsageError(
                f"{self._folder} holds {found} labels a photo, not {self._top_k}; use --topk {found}, or another folder"
            )

    def _index(self, stamp: PartStamp) -> bool:
        """Put the rows of a part into the index; False where the index has rows of the part that are gone.

        A damaged part is set aside.
        """
        path = self._folder / stamp.path
        rows = rows_of_part(path)
        if rows is None:
            logger.warning(
                "%s is damaged and set aside; its photos are labelled again if they are still there", stamp.path
            )
            path.replace(path.with_name(f".{path.name}.damaged"))
            return self._row_index.rows_after(stamp.path, []) is not None
        new = self._row_index.rows_after(stamp.path, list(_entries(rows)))
        if new is None:
            logger.warning("%s holds other rows than were written there; those that are gone count as new", stamp.path)
            return False
        self._row_index.record(stamp, new)
        return True

    def _stamp(self, path: Path) -> PartStamp:
        facts = path.stat()
        return PartStamp(str(path.relative_to(self._folder)), facts.st_size, facts.st_mtime_ns)


def _entries(rows: pa.Table) -> Iterator[Entry]:
    columns = [rows.column(name) for name in ("file_name", "sha256", "error", "size_bytes")]
    columns.append(rows.column("mtime").cast(pa.int64()))
    for name, sha256, error, size_bytes, mtime_us in zip(*(column.to_pylist() for column in columns), strict=True):
        yield Entry(name, identity_of(sha256, error, size_bytes), size_bytes, mtime_us)


def _day_of(row: Row) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=row.labelled_at_us // _DAY_US)).isoformat()
