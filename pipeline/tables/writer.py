"""Sorted slices -> one Parquet or CSV file, atomically."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from models.system.atomic_file import replacing
from pipeline.sources.file_names import csv_name
from pipeline.tables.arrow import pa, pa_csv, pq
from pipeline.tables.merge import names_of
from pipeline.tables.schema import schema

_ROWS_PER_GROUP = 65536


def export(batches: Iterable[pa.RecordBatch], out: Path, top_k: int) -> int:
    """Write `batches`, sorted by file name, as `out` (Parquet or CSV by its ending); return the number of rows.

    At every instant `out` is absent, the old table or the new one.

    Raises:
        OSError: `out` cannot be written.
    """
    table_schema = schema(top_k)
    written = 0
    with replacing(out) as stream:
        if out.suffix.lower() == ".csv":
            with pa_csv.CSVWriter(stream, table_schema) as csv_writer:
                for batch in _gathered(batches, table_schema):
                    csv_writer.write_batch(with_csv_names(batch))
                    written += batch.num_rows
        else:
            with pq.ParquetWriter(stream, table_schema, write_page_checksum=True) as writer:
                for batch in _gathered(batches, table_schema):
                    writer.write_batch(batch, row_group_size=_ROWS_PER_GROUP)
                    written += batch.num_rows
    return written


def _gathered(batches: Iterable[pa.RecordBatch], table_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Join small slices: the file's layout depends on its rows alone, not on how they came together."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch.replace_schema_metadata(table_schema.metadata))
        count += batch.num_rows
        while count >= _ROWS_PER_GROUP:
            table = pa.Table.from_batches(waiting, table_schema).combine_chunks()
            yield from table[:_ROWS_PER_GROUP].to_batches()
            waiting = table[_ROWS_PER_GROUP:].to_batches()
            count -= _ROWS_PER_GROUP
    if count:
        yield from pa.Table.from_batches(waiting, table_schema).combine_chunks().to_batches()


def with_csv_names(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return `batch` with the names as a CSV file has them: none that a spreadsheet takes for a formula."""
    names = pa.array([csv_name(name) for name in names_of(batch)], pa.string())
    return pa.RecordBatch.from_arrays([names, *batch.columns[1:]], schema=batch.schema)
