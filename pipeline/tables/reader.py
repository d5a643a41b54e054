"""Tables read back: streamed for a run to bring up to date, or whole for questions; other files are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputMissingError, OutputError, UsageError
from pipeline.tables.arrow import pa, pa_csv, pc, pq
from pipeline.tables.merge import SortedTable
from pipeline.tables.part_store import read_parquet
from pipeline.tables.schema import FORMAT_KEY, schema, top_k_of

_CSV_BLOCK_BYTES = 4 << 20
_PARTITIONS = "date=*/*"
_SUFFIXES = (".parquet", ".csv")


def refuse_foreign(out: Path) -> int | None:
    """Return how many labels a photo has in the table `out`; None where there is no such file.

    Raises:
        UsageError: `out` is not a table of label-dir, and must not be replaced.
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
    """Return the table in `out` that a run brings up to date; None where there is none.

    Raises:
        UsageError: `out` is not a table of label-dir, or a table with another number of labels.
        OutputError: `out` cannot be read.
    """
    found = refuse_foreign(out)
    if found is None:
        return None
    if found != top_k:
        raise UsageError(
            f"{out} holds {found} labels a photo, not {top_k}; use --topk {found}, or --fresh to label everything again"
        )
    return SortedTable(0, "", lambda: _batches(out, schema(top_k)))


def read_rows(path: Path) -> pa.Table:
    """Return the rows of a table, or of all partitions below a folder (of one name, the newest), sorted by name.

    Raises:
        InputMissingError: there is no table.
        UsageError: a file is not a table of label-dir, or the files differ in their number of labels.
        OutputError: a file is damaged.
    """
    if not path.is_dir():
        return _read_table(path)
    files = sorted(found for found in path.glob(_PARTITIONS) if found.suffix in _SUFFIXES and found.name[0] != ".")
    if not files:
        raise InputMissingError(f"{path} holds no date=.../*.parquet or *.csv")
    tables = [_read_table(file) for file in files]
    if any(table.schema.names != tables[0].schema.names for table in tables):
        raise UsageError(f"{path}: its files differ in their number of labels")
    return _newest(pa.concat_tables(tables))


def top_k_of_rows(rows: pa.Table) -> int:
    """Return how many labels a photo has in `rows`."""
    return sum(name.startswith("label_") for name in rows.schema.names)


def _column_names(out: Path) -> list[str] | None:
    """Return the column names, None where the file cannot be a table of label-dir."""
    if out.suffix.lower() == ".csv":
        with out.open("rb") as stream:
            header = stream.readline(65536).decode("utf-8", "replace").rstrip("\r\n")
        return [name.strip('"') for name in header.split(",")]
    try:
        found = pq.read_schema(out)
    except pa.ArrowException:
        return None
    return list(found.names) if FORMAT_KEY in (found.metadata or {}) else None


def _batches(out: Path, table_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        if out.suffix.lower() == ".csv":
            yield from _csv_batches(out, table_schema)
        else:
            for batch in read_parquet(out):
                yield batch.cast(table_schema)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{out} is damaged ({type(error).__name__}); move it away and label again") from error


def _csv_batches(out: Path, table_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Stream rows as they were before they were written: `./=1.jpg` is `=1.jpg` again, the order that of the table."""
    with pa_csv.open_csv(
        out,
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={field.name: field.type for field in table_schema},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    ) as reader:
        for batch in reader:
            names = pc.replace_substring_regex(batch.column("file_name"), r"^\./", "")
            yield pa.RecordBatch.from_arrays([names, *batch.columns[1:]], schema=table_schema)


def _read_table(path: Path) -> pa.Table:
    top_k = refuse_foreign(path)
    if top_k is None:
        raise InputMissingError(f"{path} does not exist")
    return pa.Table.from_batches(_batches(path, schema(top_k)), schema(top_k))


def _newest(rows: pa.Table) -> pa.Table:
    ordered = rows.take(pc.sort_indices(rows, [("file_name", "ascending"), ("labelled_at", "descending")]))
    names = ordered.column("file_name").combine_chunks()
    if len(names) < 2:
        return ordered
    is_first = pa.concat_arrays([pa.array([True]), pc.not_equal(names[1:], names[:-1])])
    return ordered.filter(is_first)
