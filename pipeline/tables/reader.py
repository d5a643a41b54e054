"""Tables read back: as a stream that a run brings up to date, or whole for questions; refused when it is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputMissingError, OutputError, UsageError
from pipeline.tables.arrow import pa, pa_csv, pc, pq
from pipeline.tables.merge import SortedTable
from pipeline.tables.part_store import ROWS_PER_PART
from pipeline.tables.schema import FORMAT_KEY, schema, top_k_of

_CSV_BLOCK_BYTES = 4 << 20


def refuse_foreign(out: Path) -> int | None:
    """Return how many labels a photo has in the table `out`; None where there is no such file.

    Raises:
        UsageError: `out` holds something that is not a table of label-dir, and must not be replaced.
        OutputError: `out` cannot be read.
    """
    try:
        if not out.exists():
            return None
        if not out.is_file():
            raise UsageError(f"{out} is no file; name a file that ends in .parquet or .csv")
        names = _column_names(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be read: {error.strerror or error}") from error
    found = None if names is None else top_k_of(names)
    if found is None:
        raise UsageError(f"{out} is not a table of label-dir; move it away, or choose another name")
    return found


def previous_table(out: Path, top_k: int) -> SortedTable | None:
    """Return the table in `out` to be brought up to date; None where there is none.

    Raises:
        UsageError: `out` holds something else, or a table with another number of labels.
        OutputError: `out` cannot be read.
    """
    found = refuse_foreign(out)
    if found is None:
        return None
    if found != top_k:
        raise UsageError(
            f"{out} holds {found} labels a photo, not {top_k}; use --topk {found}, or --fresh to start anew"
        )
    batches = _csv_batches if out.suffix.lower() == ".csv" else _parquet_batches
    return SortedTable(0, "", lambda: batches(out, top_k))


def _column_names(out: Path) -> list[str] | None:
    """Return the column names, None where the file cannot be a table of ours."""
    if out.suffix.lower() == ".csv":
        with out.open("rb") as stream:
            header = stream.readline(65536).decode("utf-8", "replace").rstrip("\r\n")
        return [name.strip('"') for name in header.split(",")]
    try:
        found = pq.read_schema(out)
    except pa.ArrowException:
        return None
    return list(found.names) if FORMAT_KEY in (found.metadata or {}) else None


def _parquet_batches(out: Path, top_k: int) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(out, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ROWS_PER_PART, use_threads=False):
                yield batch.cast(schema(top_k))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(out, error) from error


def _csv_batches(out: Path, top_k: int) -> Iterator[pa.RecordBatch]:
    """Read rows back as they were written; `./=1.jpg` is `=1.jpg` again, and the order the table's."""
    types = {field.name: field.type for field in schema(top_k)}
    try:
        with pa_csv.open_csv(
            out,
            read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
            ),
        ) as reader:
            for batch in reader:
                names = pc.replace_substring_regex(batch.column("file_name"), r"^\./", "")
                columns = [names, *batch.columns[1:]]
                yield pa.RecordBatch.from_arrays(columns, schema=schema(top_k))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(out, error) from error


def _damaged(out: Path, error: Exception) -> OutputError:
    return OutputError(f"{out} is damaged ({type(error).__name__}); move it away to start anew")


_PARTITIONS = "date=*/*"
_SUFFIXES = (".parquet", ".csv")


def read_rows(path: Path) -> pa.Table:
    """Return the rows of a table, or of all partitions below a folder (of one name, the newest), sorted by name.

    Raises:
        InputMissingError: there is no table.
        UsageError: it is not a table of label-dir, or its files differ in their number of labels.
        OutputError: it is damaged.
    """
    if not path.is_dir():
        return _read_file(path)
    files = sorted(found for found in path.glob(_PARTITIONS) if found.suffix in _SUFFIXES and found.name[0] != ".")
    if not files:
        raise InputMissingError(f"{path} holds no date=.../*.parquet or *.csv")
    tables = [_read_file(file) for file in files]
    if any(table.schema.names != tables[0].schema.names for table in tables):
        raise UsageError(f"{path}: its files differ in their number of labels")
    return _newest(pa.concat_tables(tables))


def top_k_of_rows(rows: pa.Table) -> int:
    """Return how many labels a photo has in `rows`."""
    return sum(name.startswith("label_") for name in rows.schema.names)


def _read_file(path: Path) -> pa.Table:
    top_k = refuse_foreign(path)
    table = None if top_k is None else previous_table(path, top_k)
    if table is None or top_k is None:
        raise InputMissingError(f"{path} does not exist")
    return pa.Table.from_batches(table.batches(), schema(top_k))


def _newest(rows: pa.Table) -> pa.Table:
    order = pc.sort_indices(rows, [("file_name", "ascending"), ("labelled_at", "descending")])
    ordered = rows.take(order)
    names = ordered.column("file_name").combine_chunks()
    if len(names) < 2:
        return ordered
    is_first = pa.concat_arrays([pa.array([True]), pc.not_equal(names[1:], names[:-1])])
    return ordered.filter(is_first)
