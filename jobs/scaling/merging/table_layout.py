"""The columns that the tables of a merge have in common, and a table's rows in just these columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from models.system.outside_text import terminal_text
from pipeline.errors import UsageError
from pipeline.tables.arrow import pa
from pipeline.tables.foreign_format import is_label_column
from pipeline.tables.schema import FORMAT_KEY, schema


@dataclass(frozen=True, slots=True)
class TableLayout:
    """`top_k` labels a photo, and the columns behind those that every table has."""

    top_k: int
    extra: tuple[pa.Field[Any], ...]

    @property
    def table_schema(self) -> pa.Schema:
        """The columns of a merged table."""
        return schema(self.top_k, self.extra)

    def refuse_others(self, found: pa.Schema, told: str) -> None:
        """Check the columns of the table `told`.

        Raises:
            UsageError: it has other columns, two of one name, or lacks some that every table has.
        """
        if FORMAT_KEY not in (found.metadata or {}):
            raise UsageError(f"{told} is not a table of label-dir")
        if (top_k := _top_k(found)) != self.top_k:
            raise UsageError(f"the tables differ in their number of labels: {told} has {top_k}, others {self.top_k}")
        if len(set(found.names)) < len(found.names):
            raise UsageError(f"{told} has two columns of one name")
        if missing := [name for name in schema(self.top_k).names if name not in found.names]:
            raise UsageError(f"{told} lacks the column {missing[0]}")
        types = {field.name: field.type for field in self.extra}
        ours = set(schema(self.top_k).names)
        for field in found:
            if field.name not in ours and types.get(field.name) != field.type:
                raise UsageError(f"the tables differ in their column {terminal_text(field.name)}: see that of {told}")

    def rows(self, rows: pa.Table) -> pa.Table:
        """Return `rows` in these columns; a further column that they lack is empty.

        Raises:
            pyarrow.ArrowException: a cell is not of its column's type, is no text, or is empty where none may be.
        """
        wanted = self.table_schema
        if rows.schema.names != wanted.names:
            columns = [
                rows.column(field.name) if field.name in rows.schema.names else pa.nulls(rows.num_rows, field.type)
                for field in wanted
            ]
            rows = pa.table(columns, names=wanted.names)
        if rows.schema.types != wanted.types:
            rows = rows.cast(wanted)
        for field in wanted:
            if not field.nullable and rows.column(field.name).null_count:
                raise pa.ArrowInvalid(f"a row has no {field.name}")
        # Arrow reads strings from Parquet as they are.
        rows.validate(full=True)
        return rows.replace_schema_metadata(None)


def common_layout(found: Iterable[tuple[str, pa.Schema]]) -> TableLayout:
    """Return the layout of tables with these names and columns, of which none `refuse_others` the others' labels.

    Raises:
        UsageError: a file is no table of label-dir, or they differ in their columns.
    """
    tables = list(found)
    top_k = _top_k(tables[0][1])
    ours = set(schema(top_k).names)
    extra = {field.name: field for _, table in tables for field in table if field.name not in ours}
    layout = TableLayout(top_k, tuple(pa.field(field.name, field.type) for field in extra.values()))
    for told, table in tables:
        layout.refuse_others(table, told)
    return layout


def _top_k(found: pa.Schema) -> int:
    return sum(map(is_label_column, found.names))
