"""Tables that pandas, DuckDB or a spreadsheet saved again: other column order, separators, types and extra columns.

Such a table is read whole, since its rows may be in any order, and becomes the table that label-dir would have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.tables.arrow import arrow_file, pa, pa_csv, pc, pq
from pipeline.tables.csv_cells import from_csv_cells, utc_times

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SEPARATORS = (",", ";", "\t")
_HEADER_BYTES = 1 << 20


def csv_header(out: Path) -> tuple[list[str], str]:
    """Return the column names of a CSV file and the separator that its header has most often; no byte order mark.

    Raises:
        OSError: the file cannot be read.
    """
    with out.open("rb") as stream:
        line = stream.readline(_HEADER_BYTES).removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace").rstrip("\r\n")
    separator = max(_SEPARATORS, key=line.count)
    return [name.strip().strip('"') for name in line.split(separator)], separator


def read_foreign(out: Path, table_schema: pa.Schema) -> pa.Table:
    """Return the rows of a table of any program as `table_schema` has them, in their order there.

    Rows without a name are left out.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read, or a cell is not of its column's type.
    """
    is_csv = out.suffix.lower() == ".csv"
    # A spreadsheet that separates by semicolons writes decimals with a comma.
    decimal_comma = is_csv and csv_header(out)[1] == ";"
    table = _read_csv(out) if is_csv else pq.read_table(arrow_file(out))
    columns = [_converted(table.column(field.name), field, decimal_comma) for field in table_schema]
    rows = pa.table(columns, schema=table_schema)
    return rows.filter(pc.is_valid(rows.column("file_name")))


def is_label_column(name: str) -> bool:
    """Tell whether a column is one of `label_1`, `label_2` ..."""
    return name.startswith("label_") and name.removeprefix("label_").isdecimal()


def _read_csv(out: Path) -> pa.Table:
    names, separator = csv_header(out)
    table = pa_csv.read_csv(
        arrow_file(out),
        read_options=pa_csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False),
        parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    batches: Sequence[pa.RecordBatch] = [from_csv_cells(batch) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, table.schema)


def _converted(column: Any, field: pa.Field[Any], decimal_comma: bool) -> Any:
    is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    if decimal_comma and is_number:
        column = pc.replace_substring(column, ",", ".")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(field.type) and not pa.types.is_integer(column.type):
        # Where a column has empty cells pandas writes its integers as floats.
        column = column.cast(pa.float64())
    if pa.types.is_timestamp(field.type) and pa.types.is_string(column.type):
        column = utc_times(column)
    elif pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, "UTC")
    return column.cast(field.type)
