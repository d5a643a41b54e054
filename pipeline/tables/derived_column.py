"""Columns whose values follow from other facts about a row, for rows that a run keeps and for new ones alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.tables.arrow import arrow_file, pa, pq
from pipeline.tables.reader import TableFormat, read_errors, sorted_table, table_format

# Each lookup costs the same for one row and for many.
_ROWS_PER_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class DerivedColumn:
    """A column of a table; `values` gives its cells for a batch of rows that has the columns `inputs`."""

    field: pa.Field[Any]
    inputs: tuple[str, ...]
    values: Callable[[pa.RecordBatch], pa.Array[Any]]


def with_derived_fields(extra: Sequence[pa.Field[Any]], derived: Sequence[DerivedColumn]) -> tuple[pa.Field[Any], ...]:
    """Return the extra columns of a table after its `derived` ones are written: in their old place, or at the end."""
    fields = {column.field.name: column.field for column in derived}
    kept = [fields.pop(field.name, field) for field in extra]
    return (*kept, *fields.values())


def with_derived_values(batch: pa.RecordBatch, derived: Sequence[DerivedColumn]) -> pa.RecordBatch:
    """Return `batch`, which has the derived columns, with their values."""
    for column in derived:
        at = batch.schema.get_field_index(column.field.name)
        batch = batch.set_column(at, column.field, column.values(batch))
    return batch


def is_any_outdated(out: Path, derived: Sequence[DerivedColumn]) -> bool:
    """Tell whether some row of the table `out` lacks a derived column, or has another value there.

    Raises:
        UsageError: `out` is not a table of label-dir.
        OutputError: `out` is damaged, or cannot be read.
    """
    found = table_format(out) if derived else None
    if found is None:
        return False
    names = [name for column in derived for name in (column.field.name, *column.inputs)]
    for batch in _columns(out, found, names):
        for column in derived:
            at = batch.schema.get_field_index(column.field.name)
            if at < 0 or not batch.column(at).equals(column.values(batch)):
                return True
    return False


def _columns(out: Path, found: TableFormat, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `out` with those of the columns `names` that it has, or more: reading all takes much longer."""
    if not found.is_ours or out.suffix.lower() == ".csv":
        yield from sorted_table(out, found).batches()
        return
    present = [name for name in names if name in found.table_schema.names]
    with read_errors(out), pq.ParquetFile(arrow_file(out), page_checksum_verification=True) as file:
        yield from file.iter_batches(_ROWS_PER_BATCH, columns=present, use_threads=False)
