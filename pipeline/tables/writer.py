"""Arrow batches -> one Parquet or CSV file, atomically."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from models.system.atomic_file import replacing
from pipeline.tables.arrow import pa, pa_csv, pq
from pipeline.tables.csv_cells import to_csv_cells
from pipeline.tables.derived_column import DerivedColumn, with_derived_fields, with_derived_values
from pipeline.tables.row_order import ORDER
from pipeline.tables.schema import schema
from pipeline.tables.source import TableSource, recording_source, source_metadata

_ROWS_PER_GROUP = 65536


def export(
    batches: Iterable[pa.RecordBatch],
    out: Path,
    top_k: int,
    source: TableSource | None = None,
    extra: Sequence[pa.Field[Any]] = (),
    derived: Sequence[DerivedColumn] = (),
) -> None:
    """Write `batches`, sorted by file name, as `out` (Parquet or CSV by its ending), and record its `source`.

    Batches without the `extra` columns have empty cells there; the values of `derived` columns are those of now, for
    all rows. At every instant `out` is absent, the old table or the new one.

    Raises:
        OSError: `out` cannot be written.
    """
    table_schema = schema(top_k, with_derived_fields(extra, derived))
    if source is not None:
        table_schema = table_schema.with_metadata({**(table_schema.metadata or {}), **source_metadata(source)})
    with recording_source(out, source):
        # In large batches, because each lookup of a derived column costs the same for one row and for many.
        rows = (with_derived_values(batch, derived) for batch in _regrouped(batches, table_schema))
        write_batches(rows, out, table_schema, _ROWS_PER_GROUP, sorting_columns=ORDER)


def write_batches(
    batches: Iterable[pa.RecordBatch], out: Path, table_schema: pa.Schema, rows_per_group: int, **parquet_options: Any
) -> None:
    """Replace `out` by `batches` in one step, in CSV or, with at most `rows_per_group` rows a group, in Parquet.

    Raises:
        OSError: `out` cannot be written.
    """
    with replacing(out) as stream:
        if out.suffix.lower() == ".csv":
            with pa_csv.CSVWriter(stream, table_schema) as csv_writer:
                for batch in batches:
                    csv_writer.write_batch(to_csv_cells(batch))
        else:
            with pq.ParquetWriter(stream, table_schema, write_page_checksum=True, **parquet_options) as writer:
                for batch in batches:
                    writer.write_batch(batch, row_group_size=rows_per_group)


def _regrouped(batches: Iterable[pa.RecordBatch], table_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Join small batches, so that the layout of the file depends on its rows alone and not on how they arrived."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(_with_all_columns(batch, table_schema))
        count += batch.num_rows
        while count >= _ROWS_PER_GROUP:
            table = pa.Table.from_batches(waiting, table_schema).combine_chunks()
            yield from table[:_ROWS_PER_GROUP].to_batches()
            waiting = table[_ROWS_PER_GROUP:].to_batches()
            count -= _ROWS_PER_GROUP
    if count:
        yield from pa.Table.from_batches(waiting, table_schema).combine_chunks().to_batches()


def _with_all_columns(batch: pa.RecordBatch, table_schema: pa.Schema) -> pa.RecordBatch:
    """Return `batch` with the columns of `table_schema`, found by their names; one that is not there is empty.

    So is one of another type: a column of another program, whose place a derived column takes.
    """
    found = {
        field.name: at for at, field in enumerate(batch.schema) if field.type == table_schema.field(field.name).type
    }
    columns = [
        batch.column(found[field.name]) if field.name in found else pa.nulls(batch.num_rows, field.type)
        for field in table_schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=table_schema)
