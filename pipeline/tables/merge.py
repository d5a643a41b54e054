"""Tables sorted by file name -> one sorted stream; of rows with one name, the newest table's."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.tables.arrow import pa


@dataclass(frozen=True, slots=True)
class SortedTable:
    """A table whose rows are sorted by file name, each name once.

    Of two tables the one with the higher `generation` is newer. With `first_name` a merge opens the table only when
    that name is due: the iterator that `batches` returns opens the table at its first step.
    """

    generation: int
    first_name: str
    batches: Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive rows of one table; the first of `rows` is row `offset` of table number `table`."""

    table: int
    offset: int
    rows: pa.RecordBatch


def names_of(batch: pa.RecordBatch) -> list[str]:
    """Return the file names of a batch, none of which is null."""
    return [str(name) for name in batch.column("file_name").to_pylist()]


class _Cursor:
    """A position in one table, which is opened by the first `advance`."""

    def __init__(self, number: int, table: SortedTable) -> None:
        self.head = table.first_name
        self.is_open = False
        self._number = number
        self._generation = table.generation
        self._batches = (batch for batch in table.batches() if batch.num_rows)
        self._batch: pa.RecordBatch | None = None
        self._names: list[str] = []
        self._position = 0
        self._offset = 0

    def __lt__(self, other: _Cursor) -> bool:
        return (self.head, -self._generation) < (other.head, -other._generation)

    def take_until(self, limit: str | None) -> Slice:
        """Return the rows before name `limit` (None: all) of the current batch, at least the current row."""
        assert self._batch is not None
        stop = len(self._names) if limit is None else bisect_left(self._names, limit, self._position)
        stop = max(stop, self._position + 1)
        taken = Slice(self._number, self._offset + self._position, self._batch[self._position : stop])
        self._position = stop
        return taken

    def advance(self) -> bool:
        """Move `head` to the name of the next row; False at the end of the table."""
        if self._position == len(self._names):
            self._batch = next(self._batches, None)
            if self._batch is None:
                return False
            self._offset += len(self._names)
            self._names = names_of(self._batch)
            self._position = 0
        self.head = self._names[self._position]
        self.is_open = True
        return True


def merge(tables: Sequence[SortedTable]) -> Iterator[Slice]:
    """Yield every name once, in order, as slices as long as the tables' overlap allows.

    Memory: one batch of each table whose names overlap with the current one.
    """
    heap = [_Cursor(number, table) for number, table in enumerate(tables)]
    heapq.heapify(heap)
    last_name: str | None = None
    while heap:
        cursor = heapq.heappop(heap)
        if cursor.is_open:
            # The newest row of a name comes first; older rows of that name are dropped one by one.
            is_older = cursor.head == last_name
            limit = cursor.head if is_older else heap[0].head if heap else None
            taken = cursor.take_until(limit)
            if not is_older:
                yield taken
                last_name = taken.rows.column("file_name")[-1].as_py()
        if cursor.advance():
            heapq.heappush(heap, cursor)
