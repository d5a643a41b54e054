"""One part that grows while others read it: written whole and renamed over itself, in row groups that stay put.

Readers often open a file twice, for its footer and for its data, and may find a later version the second time. The
data that an older footer points to is still there: row groups of the same rows are the same bytes at the same place,
and new rows form a row group of their own behind them. Small row groups are merged only when there are many.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.tables.arrow import pa
from pipeline.tables.schema import schema
from pipeline.tables.writer import write_batches

ROWS_PER_GROUP = 8192
_SMALL_GROUPS = 64
_UNIQUE = ("file_name", "sha256")


class GrowingPart:
    """A part and the rows in its file; `rows` are those already published at `path`."""

    def __init__(self, path: Path, top_k: int, rows: pa.Table | None = None) -> None:
        self.path = path
        self._schema = schema(top_k)
        # A dictionary of values that never repeat costs, for each group, ten times the memory of the group.
        self._repeating = [name for name in self._schema.names if name not in _UNIQUE]
        self._groups = [] if rows is None else self._merged(rows.to_batches())

    @property
    def rows(self) -> int:
        """How many rows are published."""
        return sum(group.num_rows for group in self._groups)

    def append(self, batch: pa.RecordBatch) -> None:
        """Publish the part with the rows of `batch` added.

        Raises:
            OSError: the part cannot be written; the last version stays.
        """
        grown = [*self._groups, batch]
        full = next((at for at, group in enumerate(grown) if group.num_rows < ROWS_PER_GROUP), len(grown))
        small = grown[full:]
        if len(small) > _SMALL_GROUPS or sum(group.num_rows for group in small) >= ROWS_PER_GROUP:
            grown[full:] = self._merged(small)
        write_batches(grown, self.path, self._schema, ROWS_PER_GROUP, use_dictionary=self._repeating)
        self._groups = grown

    def _merged(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Return the rows of `batches` in groups of 8,192 rows; the last group may have fewer."""
        rows = pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches])
        merged: list[pa.RecordBatch] = []
        for begin in range(0, rows.num_rows, ROWS_PER_GROUP):
            group = rows.slice(begin, ROWS_PER_GROUP).combine_chunks()
            merged += group.replace_schema_metadata(self._schema.metadata).to_batches()
        return merged
