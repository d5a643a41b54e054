"""Parts of a dataset are readable at any time while they grow."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.datasets.append_dataset import AppendDataset
from pipeline.datasets.growing_part import GrowingPart
from pipeline.datasets.row_index import entry_of
from pipeline.records import Row
from pipeline.tables.part_store import state_folder
from pipeline.tables.schema import to_batch


def _row(number: int, name: str | None = None) -> Row:
    return Row(
        file_name=name or f"{number:06d}.jpg",
        error=None,
        labels=("shelf", "shoe", "shop"),
        probabilities=(0.5, 0.25, 0.125),
        width=64,
        height=48,
        size_bytes=number,
        mtime_us=number,
        sha256=f"{number:064x}",
        model="tiny@0",
        labelled_at_us=1_790_000_000_000_000 + number,
    )


def _batch(first: int, count: int) -> pa.RecordBatch:
    return to_batch([_row(number) for number in range(first, first + count)], 3)


def test_a_reader_with_the_footer_of_an_older_version_reads_the_rows_of_that_version(tmp_path: Path) -> None:
    part = GrowingPart(tmp_path / "part-00001.parquet", 3)
    part.append(_batch(0, 3))
    torn = 0
    for version in range(1, 70):
        footer = pq.read_metadata(part.path)
        part.append(_batch(3 * version, 3))
        try:
            with pq.ParquetFile(part.path, metadata=footer) as seen:
                assert seen.read()["size_bytes"].to_pylist() == list(range(3 * version))
        except (OSError, pa.ArrowException):
            torn += 1
    # Small row groups were merged once.
    assert torn <= 1


def test_a_part_reopened_after_a_crash_grows_on(tmp_path: Path) -> None:
    path = tmp_path / "part-00001.parquet"
    GrowingPart(path, 3).append(_batch(0, 10))
    GrowingPart(path, 3, pq.read_table(path)).append(_batch(10, 10))
    assert pq.read_table(path)["size_bytes"].to_pylist() == list(range(20))


def test_large_parts_have_few_row_groups_and_every_row_once(tmp_path: Path) -> None:
    part = GrowingPart(tmp_path / "part-00001.parquet", 3)
    for version in range(20):
        part.append(_batch(version * 1500, 1500))
    with pq.ParquetFile(part.path) as found:
        assert found.metadata.num_row_groups < 10
        assert found.read()["size_bytes"].to_pylist() == list(range(30_000))


@pytest.mark.parametrize("part_format", ["parquet", "csv"])
def test_parts_are_read_by_duckdb_and_pandas_with_their_day(tmp_path: Path, part_format: str) -> None:
    tmp_path /= "labels"
    tmp_path.mkdir()
    state_folder(tmp_path).mkdir()
    sink = AppendDataset(tmp_path, part_format, 3)
    for number in range(5):
        assert sink.add(_row(number), entry_of(_row(number)))
        sink.commit()
    sink.close()
    again = AppendDataset(tmp_path, part_format, 3)
    rows = [_row(4), _row(5), _row(6, "=1+1.jpg")]
    assert [again.add(row, entry_of(row)) for row in rows] == [False, True, True]
    again.commit()
    again.close()
    found = duckdb.execute(
        f"SELECT file_name, \"date\"::VARCHAR FROM '{tmp_path}/*/*.{part_format}' ORDER BY size_bytes"
    ).fetchall()
    assert [row[0] for row in found][:6] == [f"{number:06d}.jpg" for number in range(6)]
    assert {row[1] for row in found} == {"2026-09-21"}
    if part_format == "parquet":
        assert len(pd.read_parquet(tmp_path)) == 7
