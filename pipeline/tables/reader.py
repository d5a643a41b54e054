"""Tables read back: streamed for a run to bring up to date, or whole for questions; other files are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, OutputError, UsageError
from pipeline.tables.arrow import pa, pa_csv, pc, pq
from pipeline.tables.csv_cells import from_csv_cells
from pipeline.tables.foreign_format import (
    BYTE_ORDER_MARK,
    csv_header,
    first_of_each_name,
    is_label_column,
    read_foreign,
)
from pipeline.tables.merge import SortedTable
from pipeline.tables.part_store import read_parquet
from pipeline.tables.schema import FORMAT_KEY, OPTIONAL_FIELDS, schema

_CSV_BLOCK_BYTES = 4 << 20
_PARTITIONS = "date=*/*"
_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class TableFormat:
    """What a table file holds: `top_k` labels a photo, and columns of other programs that stay with their rows.

    `is_ours` tells that label-dir wrote the file, whose rows are then sorted and typed as in `table_schema`; otherwise
    another program saved the table again.
    """

    top_k: int
    extra: tuple[pa.Field[Any], ...]
    is_ours: bool

    @property
    def table_schema(self) -> pa.Schema:
        """The columns of label-dir, then the extra ones."""
        return schema(self.top_k, self.extra)


def table_format(out: Path) -> TableFormat | None:
    """Return what the table `out` holds; None where there is no such file.

    Raises:
        UsageError: `out` is not a table of label-dir, and must not be replaced.
        OutputError: `out` cannot be read.
    """
    try:
        if not out.exists():
            return None
        if not out.is_file():
            raise UsageError(f"{_told(out)} is no file; name a file that ends in .parquet or .csv")
        fields, is_ours = _csv_fields(out) if out.suffix.lower() == ".csv" else _parquet_fields(out)
    except OSError as error:
        raise OutputError(f"{_told(out)} cannot be read: {error.strerror or error}") from error
    names = [field.name for field in fields]
    top_k = sum(map(is_label_column, names))
    ours = schema(top_k).names
    missing = [name for name in ours if name not in names]
    if not top_k or "file_name" in missing or len(missing) > len(ours) / 2:
        raise UsageError(f"{_told(out)} is not a table of label-dir; move it away, or choose another name")
    if missing:
        lacking = ", ".join(missing)
        raise UsageError(f"{_told(out)} lacks the column {lacking}; restore the column, or move the table away")
    if len(set(names)) < len(names):
        raise UsageError(f"{_told(out)} has two columns of one name; rename one of them, or move the table away")
    # New rows have no value there, whatever the other program declared.
    extra = tuple(pa.field(field.name, field.type) for field in fields if field.name not in ours)
    return TableFormat(top_k, extra, is_ours and names[: len(ours)] == ours)


def previous_table(out: Path, top_k: int) -> SortedTable | None:
    """Return the table in `out` that a run brings up to date; None where there is none.

    Raises:
        UsageError: `out` is not a table of label-dir, or a table with another number of labels.
        OutputError: `out` cannot be read.
    """
    found = table_format(out)
    if found is None:
        return None
    if found.top_k != top_k:
        raise UsageError(another_top_k(out, found.top_k, top_k))
    return sorted_table(out, found)


def sorted_table(out: Path, found: TableFormat) -> SortedTable:
    """Return the table in `out`, of which `table_format` has found the columns; its rows are read when merged."""
    return SortedTable(0, "", lambda: _batches(out, found))


def another_top_k(out: Path, found: int, top_k: int) -> str:
    """Return the sentence that refuses a table with another number of labels a photo."""
    return f"{_told(out)} holds {found} labels a photo, not {top_k}; use --topk {found}, or --fresh to label again"


def rows_in(out: Path) -> int:
    """Return how many rows the table `out` has, 0 where there is none.

    Raises:
        OutputError: `out` cannot be read.
    """
    found = table_format(out)
    if found is None:
        return 0
    if found.is_ours and out.suffix.lower() != ".csv":
        return int(pq.read_metadata(out).num_rows)
    return sum(batch.num_rows for batch in _batches(out, found))


def read_rows(path: Path, with_optional: bool = False) -> pa.Table:
    """Return the rows of a table, or of all partitions below a folder (of one name, the newest), sorted by name.

    The columns are those of every table; `with_optional`, also those of `OPTIONAL_FIELDS` that some file has.

    Raises:
        InputMissingError: there is no table.
        UsageError: a file is not a table of label-dir, or the files differ in their number of labels.
        OutputError: a file is damaged.
    """
    if not path.is_dir():
        return _read_table(path, with_optional)
    files = sorted(found for found in path.glob(_PARTITIONS) if found.suffix in _SUFFIXES and found.name[0] != ".")
    if not files:
        raise InputMissingError(f"{path} holds no date=.../*.parquet or *.csv")
    tables = [_read_table(file, with_optional) for file in files]
    if len({top_k_of_rows(table) for table in tables}) > 1:
        raise UsageError(f"{path}: its files differ in their number of labels")
    return _newest(pa.concat_tables(tables, promote_options="default"))


def top_k_of_rows(rows: pa.Table) -> int:
    """Return how many labels a photo has in `rows`."""
    return sum(name.startswith("label_") for name in rows.schema.names)


def _csv_fields(out: Path) -> tuple[list[pa.Field[Any]], bool]:
    names, separator = csv_header(out)
    with out.open("rb") as stream:
        has_mark = stream.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
    return [pa.field(name, pa.string()) for name in names], separator == "," and not has_mark


def _parquet_fields(out: Path) -> tuple[list[pa.Field[Any]], bool]:
    try:
        found = pq.read_schema(out)
    except pa.ArrowException as error:
        raise UsageError(f"{_told(out)} is not a table of label-dir; move it away, or choose another name") from error
    return list(found), FORMAT_KEY in (found.metadata or {})


def _batches(out: Path, found: TableFormat) -> Iterator[pa.RecordBatch]:
    table_schema = found.table_schema
    try:
        if not found.is_ours or (out.suffix.lower() == ".csv" and not _is_sorted_csv(out)):
            yield from read_foreign(out, table_schema).to_batches()
        elif out.suffix.lower() == ".csv":
            yield from _csv_batches(out, table_schema)
        else:
            for batch in read_parquet(out):
                yield batch.cast(table_schema)
    except (OSError, pa.ArrowException) as error:
        reason = terminal_text(str(error).splitlines()[0]) if str(error) else type(error).__name__
        problem = "cannot be read" if isinstance(error, OSError) and error.errno else "is damaged"
        raise OutputError(f"{_told(out)} {problem} ({reason}); move it away and label again") from error


def _is_sorted_csv(out: Path) -> bool:
    """Tell whether the rows are in the order of label-dir; a person may have sorted them in a spreadsheet."""
    last = None
    with _csv_reader(out, {"file_name": pa.string()}, ["file_name"]) as reader:
        for batch in reader:
            names = pc.replace_substring_regex(batch.column("file_name"), r"^\./", "")
            if not len(names):
                continue
            if last is not None and not last < names[0].as_py():
                return False
            if not pc.all(pc.less(names[:-1], names[1:]), min_count=0).as_py():
                return False
            last = names[-1].as_py()
    return True


def _csv_reader(
    out: Path, types: dict[str, pa.DataType], columns: list[str] | None = None
) -> pa_csv.CSVStreamingReader:
    return pa_csv.open_csv(
        out,
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


def _csv_batches(out: Path, table_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Stream rows as they were before they were written: `./=1.jpg` is `=1.jpg` again, the order that of the table."""
    with _csv_reader(out, {field.name: field.type for field in table_schema}) as reader:
        for batch in reader:
            yield pa.RecordBatch.from_arrays(from_csv_cells(batch).columns, schema=table_schema)


def _read_table(path: Path, with_optional: bool) -> pa.Table:
    found = table_format(path)
    if found is None:
        raise InputMissingError(f"{_told(path)} does not exist")
    # A column of such a name that does not hold text is another program's.
    present = {field.name for field in found.extra if with_optional and _holds_text(field.type)}
    ours = schema(found.top_k, [field for field in OPTIONAL_FIELDS if field.name in present])
    return pa.Table.from_batches(_batches(path, found), found.table_schema).select(ours.names).cast(ours)


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _newest(rows: pa.Table) -> pa.Table:
    order = pc.sort_indices(rows, [("file_name", "ascending"), ("labelled_at", "descending")])
    return first_of_each_name(rows.take(order))


def _told(path: Path) -> str:
    return terminal_text(str(path))
