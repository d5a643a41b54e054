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
    that name is due; `batches` opens the table and streams its rows.
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
    """A position in one table, which is opened when the position is first read."""

    def __init__(self, index: int, table: SortedTable) -> None:
        self.index = index
        self.head = table.first_name
        self._generation = table.generation
        self._open = table.batches
        self._batches: Iterator[pa.RecordBatch] | None = None
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
        taken = Slice(self.index, self._offset + self._position, self._batch[self._position : stop])
        self._position = stop
        return taken

    @property
    def is_open(self) -> bool:
        """Whether `head` is a name read from the table, and not yet `first_name` as its maker gave it."""
        return self._batches is not None

    def has_more(self) -> bool:
        """Move to the next row; False at the end of the table."""
        if self._position == len(self._names) and not self._next_batch():
            return False
        self.head = self._names[self._position]
        return True

    def _next_batch(self) -> bool:
        if self._batches is None:
            self._batches = self._open()
        self._offset += len(self._names)
        self._position = 0
        self._names = []
        for batch in self._batches:
            if batch.num_rows:
                self._batch = batch
                self._names = names_of(batch)
                return True
        return False


def merge(tables: Sequence[SortedTable]) -> Iterator[Slice]:
    """Yield every name once, in order, as slices as long as the tables' overlap allows.

    Memory: one batch of each table whose names overlap with the current one.
    """
    heap = [_Cursor(index, table) for index, table in enumerate(tables)]
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
        if cursor.has_more():
            heapq.heappush(heap, cursor)
