"""Which rows of the previous tables still hold: the walk beside those tables, both sorted, in little memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count, repeat

import numpy as np
from numpy.typing import NDArray

from pipeline.records import PASSING_ERRORS, FileRef
from pipeline.tables.arrow import pa
from pipeline.tables.merge import SortedTable, merge
from pipeline.tables.schema import ETAG

_COLUMNS = ("file_name", "size_bytes", "mtime", "model", "error")

# The cells of _COLUMNS, the number of the table and the row's position there. The ETag, if rows are compared by it and
# the row has one, is in the place of the size. A plain tuple: of millions of unchanged files each costs one, and a
# named tuple takes half as long again.
_PreviousRow = tuple[str, int | str, int, str, str | None, int, int]


class IncrementalUpdate:
    """Decides for each file of a walk whether a row of the previous tables still holds.

    A row holds when name, size and mtime are unchanged and the row is of the same model, unless its error may have
    passed. Of objects in a store the ETag is compared in place of size and mtime, where the store gives ETags. Rows
    below a folder that could not be listed hold as they are: `is_unreadable` tells of a name whether the name is below
    such a folder met so far. `removed` counts the rows of vanished files, among them `expired` rows of files that
    changed last before `modified_since_us` (since 1970, UTC); `replaced` counts the rows of changed files.
    """

    def __init__(
        self,
        previous: Sequence[SortedTable],
        model_id: str,
        is_unreadable: Callable[[str], bool] = lambda name: False,
        modified_since_us: int | None = None,
        by_etag: bool = False,
    ) -> None:
        self._by_etag = by_etag
        self._previous = tuple(previous)
        self._model_id = model_id
        self._is_unreadable = is_unreadable
        self._holds = [np.zeros(0, np.bool_) for _ in previous]
        self._modified_since_us = modified_since_us
        self.kept = 0
        self.replaced = 0
        self.expired = 0
        self.kept_failed: Counter[str] = Counter()
        self.removed = 0

    def pending(self, refs: Iterator[FileRef], is_cut_short: Callable[[], bool] = lambda: False) -> Iterator[FileRef]:
        """Yield the files of `refs` (sorted by name) that have no row that holds.

        Rows beyond the end of `refs` are of vanished files and do not hold, unless `is_cut_short` says by then that
        the walk stopped before its end: then these rows hold unseen.
        """
        rows = self._rows()
        row = next(rows, None)
        for ref in refs:
            while row is not None and row[0] < ref.name:
                self._decide(row, self._is_unreadable(row[0]))
                row = next(rows, None)
            if row is None or row[0] != ref.name:
                yield ref
                continue
            known, row = row, next(rows, None)
            is_same = known[1:4] == (ref.size_bytes, ref.mtime_us, self._model_id) or (
                ref.etag is not None and known[1] == ref.etag and known[3] == self._model_id
            )
            if is_same and not _may_have_passed(known[4]):
                self._decide(known, holds=True)
            else:
                self.replaced += 1
                yield ref
        unseen_hold = row is not None and is_cut_short()
        while row is not None:
            self._decide(row, unseen_hold or self._is_unreadable(row[0]))
            row = next(rows, None)

    def result(self, new: Sequence[SortedTable]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that hold and those of the tables `new`, sorted, each name once."""
        for piece in merge([*self._previous, *new]):
            if piece.table < len(self._previous):
                end = piece.offset + piece.rows.num_rows
                yield piece.rows.filter(pa.array(self._grown(piece.table, end)[piece.offset : end]))
            else:
                yield piece.rows

    def _decide(self, row: _PreviousRow, holds: bool) -> None:
        if not holds:
            self.removed += 1
            self.expired += self._modified_since_us is not None and row[2] < self._modified_since_us
            return
        table, position = row[5:]
        self._grown(table, position + 1)[position] = True
        self.kept += 1
        if row[4] is not None:
            self.kept_failed[row[4].partition(":")[0]] += 1

    def _rows(self) -> Iterator[_PreviousRow]:
        for piece in merge(self._previous):
            names, sizes, times, models, errors = map(piece.rows.column, _COLUMNS)
            columns = [column.to_pylist() for column in (names, sizes, times.cast(pa.int64()), models, errors)]
            if self._by_etag and ETAG.name in piece.rows.schema.names:
                etags = piece.rows.column(ETAG.name).to_pylist()
                columns[1] = [size if etag is None else etag for size, etag in zip(columns[1], etags, strict=True)]
            yield from zip(*columns, repeat(piece.table), count(piece.offset), strict=False)

    def _grown(self, table: int, rows: int) -> NDArray[np.bool_]:
        """Return which rows of a previous table hold, for at least its first `rows` rows."""
        known = self._holds[table]
        if rows > len(known):
            self._holds[table] = np.zeros(max(2 * len(known), rows, 8192), np.bool_)
            self._holds[table][: len(known)] = known
        return self._holds[table]


def _may_have_passed(error: str | None) -> bool:
    return error is not None and error.partition(":")[0] in PASSING_ERRORS
