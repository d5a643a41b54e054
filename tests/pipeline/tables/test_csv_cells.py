"""A CSV table holds no formula, and its rows are read as they were (case 19)."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Row
from pipeline.tables.csv_cells import from_csv_cells, to_csv_cells
from pipeline.tables.reader import read_rows
from pipeline.tables.schema import to_batch
from pipeline.tables.writer import export

FORMULAS = ("=HYPERLINK(1)", "+1", "-1", "@sum", "'=1", "''+2", "plain", "it's")
TEXTS = st.text(st.sampled_from("'=+-@\t\r a1."), min_size=1, max_size=6)


def rows_with(texts: list[str]) -> pa.RecordBatch:
    """Return a row for each text, which is its label, its model and the name of its file."""
    return to_batch([Row(text, None, (text,), (0.5,), 1, 1, 9, 0, "ab" * 32, text, 0) for text in texts], 1)


def test_no_cell_of_a_csv_table_is_a_formula_and_every_cell_is_read_as_it_was(tmp_path: Path) -> None:
    rows = rows_with(sorted(FORMULAS))
    out = tmp_path / "out.csv"
    export([rows], out, 1)
    with out.open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert read_rows(out).to_pylist() == rows.to_pylist()


@settings(derandomize=True, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5, unique=True))
def test_rows_come_back_whatever_they_begin_with(texts: list[str]) -> None:
    rows = rows_with([text.removeprefix("./") or "x" for text in texts])
    assert from_csv_cells(to_csv_cells(rows)).to_pylist() == rows.to_pylist()


@pytest.mark.parametrize(("name", "cell"), [("=1.jpg", "./=1.jpg"), ("'=1.jpg", "'=1.jpg"), ("a/=1.jpg", "a/=1.jpg")])
def test_the_name_in_a_cell_leads_to_the_file(name: str, cell: str) -> None:
    assert to_csv_cells(rows_with([name])).column("file_name").to_pylist() == [cell]


@pytest.mark.parametrize("column", ["label_1", "error", "model", "reviewed_label", "etag"])
def test_every_column_of_text_from_outside_is_guarded(column: str) -> None:
    rows = pa.record_batch({column: ["=1", "plain"]})
    cells = to_csv_cells(rows)
    assert cells.column(column).to_pylist() == ["'=1", "plain"]
    assert from_csv_cells(cells).to_pylist() == rows.to_pylist()
