"""One part: rows in the order they came, in row groups small enough that writing it all again takes little memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.durable import replacing
from pipeline.export import with_csv_names
from pipeline.table import schema

ROWS_PER_GROUP = 8192


class PartFile:
    """A part that grows; each version is written whole and renamed over the last one."""

    def __init__(self, path: Path, top_k: int, rows: pa.Table | None = None) -> None:
        self.path = path
        self._schema = schema(top_k)
        self._groups = [] if rows is None else self._in_groups(rows)

    @property
    def rows(self) -> int:
        """How many rows are published."""
        return sum(group.num_rows for group in self._groups)

    def append(self, batch: pa.RecordBatch) -> None:
        """Publish the part with the rows of `batch` added.

        Raises:
            OSError: it cannot be written; the last version stays.
        """
        # Only the last group is copied; the full ones are the same from version to version, in the file too.
        full = [group for group in self._groups if group.num_rows == ROWS_PER_GROUP]
        tail = [group.replace_schema_metadata(None) for group in self._groups[len(full) :]]
        grown = [*full, *self._in_groups(pa.Table.from_batches([*tail, batch.replace_schema_metadata(None)]))]
        with replacing(self.path) as stream:
            if self.path.suffix == ".csv":
                with pa_csv.CSVWriter(stream, self._schema) as csv_writer:
                    for group in grown:
                        csv_writer.write_batch(with_csv_names(group))
            else:
                with pq.ParquetWriter(stream, self._schema, write_page_checksum=True) as writer:
                    for group in grown:
                        writer.write_batch(group, row_group_size=ROWS_PER_GROUP)
        self._groups = grown

    def _in_groups(self, rows: pa.Table) -> list[pa.RecordBatch]:
        batches: list[pa.RecordBatch] = []
        for begin in range(0, rows.num_rows, ROWS_PER_GROUP):
            group = rows.slice(begin, ROWS_PER_GROUP).combine_chunks()
            batches += group.replace_schema_metadata(self._schema.metadata).to_batches()
        return batches
