"""What is already labelled: the walk beside the previous tables, both sorted, so that memory stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.records import PASSING_ERRORS, FileRef
from pipeline.tables.arrow import pa
from pipeline.tables.merge import Slice, SortedTable, merge

_KEYS = ("file_name", "size_bytes", "mtime", "model", "error")

_OldRow = tuple[str, int, int, str, str | None, int, int]


class Refresh:
    """Decides for each file of a walk whether a row of the previous tables still holds.

    A row holds when name, size and mtime are unchanged and it is of the same model, unless it tells of an error that
    may have passed. Rows below a folder that could not be listed hold as they are: `is_unreadable` tells of a name
    whether it is below one of those met so far.
    """

    def __init__(
        self, previous: Sequence[SortedTable], model_id: str, is_unreadable: Callable[[str], bool] = lambda name: False
    ) -> None:
        self._is_unreadable = is_unreadable
        self._previous = tuple(previous)
        self._model_id = model_id
        self._keep: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_) for _ in previous]
        self.kept = 0
        self.kept_failed: Counter[str] = Counter()
        self.removed = 0

    def pending(self, refs: Iterator[FileRef], is_cut_short: Callable[[], bool] = lambda: False) -> Iterator[FileRef]:
        """Yield the files of `refs` (sorted by name) that have no row that holds.

        Rows beyond the end of `refs` are of vanished files, unless `is_cut_short` says by then that there would have
        been more files: those rows hold, unseen, as they are.
        """
        rows = self._rows()
        row = next(rows, None)
        for ref in refs:
            while row is not None and row[0] < ref.name:
                self._pass_over(row, self._is_unreadable(row[0]))
                row = next(rows, None)
            if row is None or row[0] != ref.name:
                yield ref
                continue
            old, row = row, next(rows, None)
            if old[1:4] == (ref.size_bytes, ref.mtime_us, self._model_id) and _class_of(old) not in PASSING_ERRORS:
                self._pass_over(old, holds=True)
            else:
                yield ref
        unseen_hold = row is not None and is_cut_short()
        while row is not None:
            self._pass_over(row, unseen_hold or self._is_unreadable(row[0]))
            row = next(rows, None)

    def result(self, new: Sequence[SortedTable]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that hold and those of the tables `new`, sorted, each name once."""
        old = len(self._previous)
        for piece in merge([*self._previous, *new]):
            yield piece.rows if piece.table >= old else piece.rows.filter(pa.array(self._kept_of(piece)))

    def _pass_over(self, row: _OldRow, holds: bool) -> None:
        if not holds:
            self.removed += 1
            return
        self._mark(row[5], row[6])
        self.kept += 1
        if row[4] is not None:
            self.kept_failed[_class_of(row)] += 1

    def _rows(self) -> Iterator[_OldRow]:
        for piece in merge(self._previous):
            names, sizes, times, models, errors = (piece.rows.column(key) for key in _KEYS)
            yield from zip(
                names.to_pylist(),
                sizes.to_pylist(),
                times.cast(pa.int64()).to_pylist(),
                models.to_pylist(),
                errors.to_pylist(),
                [piece.table] * len(names),
                range(piece.offset, piece.offset + len(names)),
                strict=True,
            )

    def _mark(self, table: int, position: int) -> None:
        keep = self._keep[table]
        if position >= len(keep):
            grown = np.zeros(max(2 * len(keep), position + 1, 8192), np.bool_)
            grown[: len(keep)] = keep
            self._keep[table] = keep = grown
        keep[position] = True

    def _kept_of(self, piece: Slice) -> NDArray[np.bool_]:
        kept = np.zeros(piece.rows.num_rows, np.bool_)
        known = self._keep[piece.table][piece.offset : piece.offset + piece.rows.num_rows]
        kept[: len(known)] = known
        return kept


def _class_of(row: _OldRow) -> str:
    error = row[4]
    return "" if error is None else error.partition(":")[0]
