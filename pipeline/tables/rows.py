"""A finished table in memory, for those who ask it questions: one file, or a folder of `date=` partitions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputMissingError, UsageError
from pipeline.tables.reader import previous_table, refuse_foreign
from pipeline.tables.schema import schema

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
