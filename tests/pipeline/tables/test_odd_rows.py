"""Tables that other programs saved again, in another order or with cells changed: no photo loses its row."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.report.facts import facts_of
from jobs.report.table_query import Query, show
from pipeline.errors import OutputError
from pipeline.reviews.reviewed_labels import read_reviewed_rows
from pipeline.tables.reader import read_rows
from tests.support.bytes_labeller import bring_up_to_date, put

NAMES = [f"{number}.jpg" for number in range(9)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A Parquet table of nine photos and one file without bytes."""
    for name in NAMES:
        put(tmp_path / "photos" / name, name.encode())
    put(tmp_path / "photos" / "empty.jpg", b"")
    bring_up_to_date(tmp_path / "photos", tmp_path / "out.parquet")
    return tmp_path / "out.parquet"


def with_cell(out: Path, column: str, cell: object) -> None:
    """Exchange the first cell of a column, and save the table with its metadata."""
    table = pq.read_table(out)
    kind = table.schema.field(column).type
    values = [cell, *table.column(column).to_pylist()[1:]]
    array = pa.array(values, pa.binary()).view(pa.string()) if isinstance(cell, bytes) else pa.array(values, kind)
    changed = table.set_column(table.schema.get_field_index(column), column, array)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), out)


def test_a_table_saved_again_in_another_order_keeps_the_row_of_every_photo(out: Path, tmp_path: Path) -> None:
    """pyarrow keeps the metadata that says that label-dir wrote the file; rows were lost without a word."""
    pq.write_table(pq.read_table(out).sort_by([("file_name", "descending")]), out)
    summary = bring_up_to_date(tmp_path / "photos", out)
    assert (summary.kept, summary.labelled, summary.removed) == (10, 0, 0)
    (tmp_path / "photos" / NAMES[3]).unlink()
    bring_up_to_date(tmp_path / "photos", out)
    assert read_rows(out).column("file_name").to_pylist() == [name for name in NAMES if name != NAMES[3]] + [
        "empty.jpg"
    ]


def test_rows_of_one_name_count_once_and_the_newest_counts(out: Path) -> None:
    table = pq.read_table(out)
    newer = table.slice(0, 1).to_pylist()[0]
    newer["label_1"], newer["labelled_at"] = "newer", newer["labelled_at"].replace(year=2020)
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([newer], table.schema)]), out)
    rows = read_rows(out)
    assert rows.num_rows == 10
    assert rows.column("label_1").to_pylist()[0] == "newer"


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("labelled_at", None, "a row has no labelled_at"),
        ("model", None, "a row has no model"),
        ("file_name", b"\xff\xfe.jpg", "Invalid UTF8"),
        ("label_1", b"\xed\xa0\x80", "Invalid UTF8"),
    ],
)
def test_a_row_that_cannot_be_kept_is_refused_in_one_sentence(
    out: Path, tmp_path: Path, column: str, cell: object, reason: str
) -> None:
    """These were tracebacks, or rows that no Parquet file takes."""
    with_cell(out, column, cell)
    before = out.read_bytes()
    with pytest.raises(OutputError, match=f"out.parquet is damaged .*{reason}.*; move it away and label again"):
        bring_up_to_date(tmp_path / "photos", out)
    assert out.read_bytes() == before


def test_a_label_without_a_probability_is_not_reused_and_harms_nothing(out: Path, tmp_path: Path) -> None:
    with_cell(out, "prob_1", None)
    (tmp_path / "photos" / NAMES[0]).rename(tmp_path / "photos" / "renamed.jpg")
    summary = bring_up_to_date(tmp_path / "photos", out)
    assert (summary.copied, summary.labelled) == (0, 1)
    assert read_rows(out).num_rows == 10


def test_odd_times_reasons_and_probabilities_are_shown(out: Path) -> None:
    for column, cell in (("labelled_at", 2**62), ("prob_1", float("inf")), ("status", "error")):
        with_cell(out, column, cell)
        rows = read_reviewed_rows(out)
        assert list(show(rows, Query())[0])
        assert list(show(rows, Query(errors=True))[0])
        assert facts_of(rows).photo_count == 10
