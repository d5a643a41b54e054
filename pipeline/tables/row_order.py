"""The order of a table's rows: by file name, each name once; tables of other programs and parts may have another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.tables.arrow import arrow_file, pa, pc, pq
from pipeline.tables.csv_cells import csv_reader

ORDER = (pq.SortingColumn(0),)


def is_sorted_by_name(out: Path) -> bool:
    """Tell whether the rows are in the order of label-dir, each name once.

    Another program may have sorted them, a Parquet file too without a trace in the metadata. But it knows nothing of
    the order that `pipeline.tables.writer.export` declares, so the names are read only where that is missing.
    """
    if out.suffix.lower() == ".csv":
        with csv_reader(out, {"file_name": pa.string()}, ["file_name"]) as reader:
            return _are_ascending(pc.replace_substring_regex(batch.column(0), r"^\./", "") for batch in reader)
    with pq.ParquetFile(arrow_file(out)) as file:
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        if all(tuple(group.sorting_columns) == ORDER for group in groups):
            return True
        return _are_ascending(batch.column(0) for batch in file.iter_batches(columns=["file_name"], use_threads=False))


def _are_ascending(columns: Iterable[Any]) -> bool:
    last = None
    for names in columns:
        if names.null_count:
            # A row of empty cells, as spreadsheets leave them.
            return False
        if not len(names):
            continue
        if last is not None and not last < names[0].as_py():
            return False
        if not pc.all(pc.less(names[:-1], names[1:]), min_count=0).as_py():
            return False
        last = names[-1].as_py()
    return True


def newest_of_each_name(rows: pa.Table) -> pa.Table:
    """Return `rows` sorted by file name; of several rows with one name, the one that was labelled last."""
    ordered = rows.take(pc.sort_indices(rows, [("file_name", "ascending"), ("labelled_at", "descending")]))
    names = ordered.column("file_name").combine_chunks()
    if len(names) < 2:
        return ordered
    return ordered.filter(pa.concat_arrays([pa.array([True]), pc.not_equal(names[1:], names[:-1])]))
