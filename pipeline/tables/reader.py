"""Tables read back: streamed for a run to bring up to date, or whole for questions; other files are refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, OutputError, UsageError
from pipeline.tables.arrow import arrow_file, pa, pq
from pipeline.tables.csv_cells import csv_batches
from pipeline.tables.foreign_format import (
    csv_header,
    is_label_column,
    read_foreign,
)
from pipeline.tables.merge import SortedTable
from pipeline.tables.part_store import read_parquet
from pipeline.tables.row_order import is_sorted_by_name, newest_of_each_name
from pipeline.tables.schema import FORMAT_KEY, OPTIONAL_FIELDS, schema

_PARTITIONS = "date=*/*"
_SUFFIXES = (".parquet", ".csv")

Batch = TypeVar("Batch", pa.RecordBatch, pa.Table)


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
        raise OutputError(f"{_told(out)} cannot be read: {error.strerror or _reason(error)}") from error
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
        return int(pq.read_metadata(arrow_file(out)).num_rows)
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
        return _table(path, _batches, with_optional)
    files = table_files(path)
    if not files:
        raise InputMissingError(f"{path} holds no date=.../*.parquet or *.csv")
    tables = [rows_as_stored(file, with_optional) for file in files]
    if len({top_k_of_rows(table) for table in tables}) > 1:
        raise UsageError(f"{path}: its files differ in their number of labels")
    return newest_of_each_name(pa.concat_tables(tables, promote_options="default"))


def table_files(path: Path) -> list[Path]:
    """Return the files of a table: the table itself, or all partitions below a folder."""
    if not path.is_dir():
        return [path]
    return sorted(found for found in path.glob(_PARTITIONS) if found.suffix in _SUFFIXES and found.name[0] != ".")


def rows_as_stored(path: Path, with_optional: bool = False) -> pa.Table:
    """Return all rows of one table or part in their order there, in which a name may have several rows.

    Raises:
        InputMissingError: there is no table.
        UsageError: the file is not a table of label-dir.
        OutputError: the file is damaged.
    """
    return _table(path, _stored_batches, with_optional)


def top_k_of_rows(rows: pa.Table) -> int:
    """Return how many labels a photo has in `rows`."""
    return sum(name.startswith("label_") for name in rows.schema.names)


def _csv_fields(out: Path) -> tuple[list[pa.Field[Any]], bool]:
    names, separator = csv_header(out)
    with out.open("rb") as stream:
        # Neither a byte order mark nor a header without quotes, as pandas and DuckDB write it.
        is_quoted = stream.read(1) == b'"'
    return [pa.field(name, pa.string()) for name in names], separator == "," and is_quoted


def _parquet_fields(out: Path) -> tuple[list[pa.Field[Any]], bool]:
    try:
        found = pq.read_schema(arrow_file(out))
    except pa.ArrowException as error:
        raise UsageError(f"{_told(out)} is not a table of label-dir; move it away, or choose another name") from error
    return list(found), FORMAT_KEY in (found.metadata or {})


def _batches(out: Path, found: TableFormat) -> Iterator[pa.RecordBatch]:
    """Stream the rows sorted by name, each name once; a table that is not so is read whole."""
    table_schema = found.table_schema
    with read_errors(out):
        if found.is_ours and is_sorted_by_name(out):
            yield from _stored_batches(out, found)
        else:
            yield from newest_of_each_name(_checked(read_foreign(out, table_schema), table_schema)).to_batches()


def _stored_batches(out: Path, found: TableFormat) -> Iterator[pa.RecordBatch]:
    table_schema = found.table_schema
    with read_errors(out):
        if not found.is_ours:
            yield from _checked(read_foreign(out, table_schema), table_schema).to_batches()
        elif out.suffix.lower() == ".csv":
            for batch in csv_batches(out, table_schema):
                yield _checked(batch, table_schema)
        else:
            for batch in read_parquet(out):
                yield _checked(batch, table_schema).cast(table_schema)


@contextlib.contextmanager
def read_errors(out: Path) -> Iterator[None]:
    """Run a block that reads `out`; an error of it becomes an OutputError with path and reason."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        problem = "cannot be read" if isinstance(error, OSError) and error.errno else "is damaged"
        raise OutputError(f"{_told(out)} {problem} ({_reason(error)}); move it away and label again") from error


def _checked(rows: Batch, table_schema: pa.Schema) -> Batch:
    """Return `rows` where a run can keep and write all of them: each has what each row needs, in valid UTF-8.

    Raises:
        pyarrow.ArrowInvalid: a cell is empty that a row needs, or is no text.
    """
    for field in table_schema:
        if not field.nullable and rows.column(field.name).null_count:
            raise pa.ArrowInvalid(f"a row has no {field.name}")
    # Arrow reads strings from Parquet as they are.
    rows.validate(full=True)
    return rows


def _reason(error: Exception) -> str:
    return terminal_text(str(error).splitlines()[0]) if str(error) else type(error).__name__


def _table(
    path: Path, batches_of: Callable[[Path, TableFormat], Iterator[pa.RecordBatch]], with_optional: bool
) -> pa.Table:
    found = table_format(path)
    if found is None:
        raise InputMissingError(f"{_told(path)} does not exist")
    # A column of such a name that does not hold text is another program's.
    present = {field.name for field in found.extra if with_optional and _holds_text(field.type)}
    ours = schema(found.top_k, [field for field in OPTIONAL_FIELDS if field.name in present])
    return pa.Table.from_batches(batches_of(path, found), found.table_schema).select(ours.names).cast(ours)


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _told(path: Path) -> str:
    return terminal_text(str(path))
