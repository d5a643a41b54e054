"""Odd tables: valid ones with other types, cells, rows, columns or encodings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from pipeline.tables.schema import FORMAT_KEY

_TYPES: tuple[Any, ...] = (
    *(pa.string(), pa.large_string(), pa.binary(), pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float64()),
    *(pa.date32(), pa.timestamp("s"), pa.timestamp("ns", "Europe/Berlin"), pa.time64("us"), pa.decimal128(10, 2)),
    *(pa.list_(pa.int32()), pa.struct([("a", pa.int8())]), pa.dictionary(pa.int32(), pa.string()), pa.null()),
)
_CELLS = st.one_of(
    st.sampled_from(
        ["", "a.jpg", "b.jpg", "../a.jpg", "/etc/passwd", "x" * 300, "a\0b", "\\x", "ok", "error", "unsure"]
    ),
    st.sampled_from([0, 1, -1, 2**31 - 1, 2**62, -(2**62), 253_402_300_800_000_000, None, None]),
    st.sampled_from([float("nan"), float("inf"), -1.0, 1e300, 0.5]),
    st.sampled_from([b"\xff\xfe", b"\xed\xa0\x80", b"a.jpg\xc3"]),
)


@st.composite
def odd_parquet(draw: st.DrawFn, valid: pa.Table) -> bytes:
    """Draw the bytes of a Parquet file that is `valid` with other types, cells, order, columns or metadata."""
    table = valid
    for _ in range(draw(st.integers(1, 3))):
        table = draw(st.sampled_from(_CHANGES))(draw, table)
    if draw(st.booleans()):
        metadata = dict(table.schema.metadata or {})
        metadata[draw(st.sampled_from([FORMAT_KEY, b"label_dir.source", b"x"]))] = draw(st.binary(max_size=20))
        table = table.replace_schema_metadata(metadata if draw(st.booleans()) else None)
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, row_group_size=draw(st.integers(1, 5)))
    return bytes(stream.getvalue())


def _other_cells(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    at = draw(st.integers(0, table.num_columns - 1))
    field = table.schema.field(at)
    column = table.column(at).combine_chunks()
    # Text that is no UTF-8 can be read as bytes only.
    values: list[Any] = (column.view(pa.binary()) if pa.types.is_string(field.type) else column).to_pylist()
    for row in draw(st.lists(st.integers(0, max(0, len(values) - 1)), max_size=3)) if values else ():
        values[row] = draw(_CELLS)
    return _with_column(table, at, field.name, _array(values, field.type))


def _other_type(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    at = draw(st.integers(0, table.num_columns - 1))
    cell, kind = draw(_CELLS), draw(st.sampled_from(_TYPES))
    array = _array([cell] * table.num_rows, kind)
    return _with_column(table, at, table.schema.field(at).name, array)


def _array(values: list[Any], kind: Any) -> Any:
    """Return `values` as `kind`; values that `kind` has no place for are null, bytes that are no UTF-8 stay."""
    if pa.types.is_string(kind) and any(isinstance(value, bytes) for value in values):
        as_bytes = [
            value if isinstance(value, bytes) else None if value is None else str(value).encode() for value in values
        ]
        return pa.array(as_bytes, pa.binary()).view(pa.string())
    cells = []
    for value in values:
        try:
            cells.append(pa.scalar(value, kind).as_py())
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            cells.append(None)
    try:
        return pa.array(cells, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.nulls(len(values), kind)


def _with_column(table: pa.Table, at: int, name: str, array: Any) -> pa.Table:
    changed = table.set_column(at, pa.field(name, array.type), array)
    return changed.replace_schema_metadata(table.schema.metadata)


def _other_order(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    rows = draw(st.lists(st.integers(0, max(0, table.num_rows - 1)), max_size=8)) if table.num_rows else []
    return table.take(pa.array(rows, pa.int64()))


def _other_columns(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    # By their positions, because two columns may have one name by now.
    columns = draw(st.permutations(range(table.num_columns)))
    return table.select(columns[draw(st.integers(0, 1)) :])


def _other_names(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    names = list(table.column_names)
    new = st.sampled_from(["label_3", "label_1", "prob_9", "x", "", "label_" + "9" * 30, "label_\u0663", "file_name"])
    names[draw(st.integers(0, len(names) - 1))] = draw(new)
    return table.rename_columns(names)


def _more_columns(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    kind = draw(st.sampled_from(_TYPES))
    name = draw(st.sampled_from(["shelf", "label_3", "prob_3", "a,b", 'a"b', "x\n"]))
    return table.append_column(pa.field(name, kind), _array([draw(_CELLS)] * table.num_rows, kind))


_CHANGES: list[Callable[[st.DrawFn, pa.Table], pa.Table]] = [
    *(_other_cells, _other_cells, _other_type, _other_order, _other_columns, _other_names, _more_columns)
]


@st.composite
def odd_csv(draw: st.DrawFn, valid: str) -> bytes:
    """Draw the bytes of a CSV file that is `valid` with other cells, rows, separators or encodings."""
    lines = [line.split(",") for line in valid.splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.integers(0, len(lines) - 1))
        at = draw(st.integers(0, len(lines[row]) - 1))
        kind = draw(st.integers(0, 6))
        if kind < 3:
            lines[row][at] = draw(_CSV_CELLS)
        elif kind == 3:
            del lines[row][at:]
        elif kind == 4:
            lines.insert(row, list(draw(st.sampled_from(lines))))
        elif kind == 5:
            for line in lines:
                line.append("x")
        else:
            lines.reverse()
        lines = [line for line in lines if line] or [[""]]
    separator, end = (
        draw(st.sampled_from([",", ",", ",", ";", "\t"])),
        draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])),
    )
    text = end.join(separator.join(line) for line in lines) + draw(st.sampled_from(["", end, end + end]))
    encoded = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])), "replace")
    return encoded.replace(b"?BAD?", b"\xff\xc3")


_CSV_CELLS = st.sampled_from(
    [
        *("", '"', '""', '"a', "'=1", "=1", "./=1", "NaN", "-1", "1e999", "9" * 40, "a,b", '"a\nb"', "nul\0", "?BAD?"),
        *("2023-11-14 22:13:20Z", "99999-01-01 00:00:00Z", "14.11.2023", "0,5", "true"),
        *("ok", "error", "a.jpg", "b.jpg", "file_name", "label_1"),
    ]
)
