"""Columns whose values follow from other facts about a row, for rows that a run keeps and for new ones alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.tables.arrow import pa


@dataclass(frozen=True, slots=True)
class DerivedColumn:
    """A column of a table; `values` gives the cells of a batch of rows, one for each, whatever the batch has there."""

    field: pa.Field[Any]
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


def is_any_outdated(batches: Iterable[pa.RecordBatch], derived: Sequence[DerivedColumn]) -> bool:
    """Tell whether some row of a table lacks a derived column, or has another value there."""
    if not derived:
        return False
    for batch in batches:
        for column in derived:
            at = batch.schema.get_field_index(column.field.name)
            if at < 0 or not batch.column(at).equals(column.values(batch)):
                return True
    return False
