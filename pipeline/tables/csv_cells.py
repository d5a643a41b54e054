"""Rows as a CSV file has them, in which no spreadsheet takes a cell for a formula, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.system.outside_text import FORMULA_PATTERN, GUARDED_FORMULA_PATTERN
from pipeline.tables.arrow import arrow_file, pa, pa_csv, pc

# The other columns of text hold hexadecimal digits and a closed list of words.
_OUTSIDE_TEXT = ("error", "model", "reviewed_label", "etag")
_CSV_BLOCK_BYTES = 4 << 20
_FIRST_CHARACTERS = ("=", "+", "-", "@", "\t", "\r", "'")


def to_csv_cells(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return `rows` as a CSV file has them: a label `=1` becomes `'=1`, a file `=1.jpg` becomes `./=1.jpg`.

    The name in the cell still leads to the file.
    """
    arrays = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if field.name == "file_name":
            column = pc.replace_substring_regex(column, r"^([=+\-@\t\r])", r"./\1")
        elif _is_outside_text(field.name) and _begins_with_any(column, _FIRST_CHARACTERS):
            column = pc.replace_substring_regex(column, FORMULA_PATTERN, r"'\1")
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)


def from_csv_cells(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows that `to_csv_cells` made `rows` of, whose columns may be of another order and number."""
    arrays = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if field.name == "file_name":
            column = pc.replace_substring_regex(column, r"^\./", "")
        elif _is_outside_text(field.name) and _begins_with_any(column, ("'",)):
            column = pc.replace_substring_regex(column, GUARDED_FORMULA_PATTERN, r"\1")
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)


def _is_outside_text(name: str) -> bool:
    return name in _OUTSIDE_TEXT or name.startswith("label_")


def _begins_with_any(column: pa.Array[Any], characters: tuple[str, ...]) -> bool:
    """Tell whether any cell may need a change: comparing one character costs a tenth of a regular expression."""
    first = pc.utf8_slice_codeunits(column, 0, 1)
    return bool(pc.any(pc.is_in(first, pa.array(characters, pa.string()))).as_py())


def csv_reader(out: Path, types: dict[str, pa.DataType], columns: list[str] | None = None) -> pa_csv.CSVStreamingReader:
    """Return the rows of a CSV file of label-dir as a stream, of `columns` or all of them; empty cells are null.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read, or a cell is not of its column's type.
    """
    return pa_csv.open_csv(
        arrow_file(out),
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=types,
            include_columns=columns,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def csv_batches(out: Path, table_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a CSV file as they were before they were written: `./=1.jpg` is `=1.jpg` again.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read, or a cell is not of its column's type.
    """
    with csv_reader(out, {field.name: _lenient(field.type) for field in table_schema}) as reader:
        for batch in reader:
            cells = zip(from_csv_cells(batch).columns, table_schema, strict=True)
            columns = [
                utc_times(column) if pa.types.is_timestamp(field.type) else column.cast(field.type)
                for column, field in cells
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=table_schema)


def _lenient(kind: pa.DataType) -> pa.DataType:
    """Return the type by which a cell is read, so that what other programs write for the same value is that value."""
    # Where a column has empty cells pandas writes its integers as floats, as in `40.0`.
    return pa.string() if pa.types.is_timestamp(kind) else pa.float64() if pa.types.is_integer(kind) else kind


def utc_times(column: Any) -> Any:
    """Return the times, in microseconds and UTC, of text in ISO 8601 with or without a time zone.

    Raises:
        pyarrow.ArrowInvalid: a cell is no time.
    """
    utc = pa.timestamp("us", tz="UTC")
    with contextlib.suppress(pa.ArrowInvalid):
        return column.cast(utc)
    # pyarrow writes nanoseconds in a CSV file.
    column = pc.replace_substring_regex(column, r"(\.[0-9]{6})[0-9]{1,3}", r"\1")
    with contextlib.suppress(pa.ArrowInvalid):
        return column.cast(utc)
    return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
