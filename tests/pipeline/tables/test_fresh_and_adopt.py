"""Which rows and which folder a table has after a run, as pairs of folders and tables showed it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from jobs.report.find_photos import source_folder
from pipeline.errors import UsageError
from pipeline.gone_guard import GoneLimit
from pipeline.tables.reader import read_rows
from pipeline.tables.source import recorded_source, sidecar_of, source_of
from tests.support.bytes_labeller import bring_up_to_date, put

OUTS = pytest.mark.parametrize("out", ["labels.parquet", "labels.csv"])


@OUTS
def test_a_fresh_run_of_an_emptied_folder_leaves_no_row_when_told(tmp_path: Path, out: str) -> None:
    """The rows of photos that were gone stayed, and the run said that there were none."""
    put(tmp_path / "photos" / "a.jpg", b"one")
    bring_up_to_date(tmp_path / "photos", tmp_path / out)
    (tmp_path / "photos" / "a.jpg").unlink()
    bring_up_to_date(tmp_path / "photos", tmp_path / out, fresh=True, gone_limit=GoneLimit(1.0))
    assert read_rows(tmp_path / out).num_rows == 0


@OUTS
def test_a_fresh_run_makes_the_table_that_of_its_folder_even_without_photos(tmp_path: Path, out: str) -> None:
    for folder in ("2023", "2024"):
        (tmp_path / folder).mkdir()
    bring_up_to_date(tmp_path / "2023", tmp_path / out)
    bring_up_to_date(tmp_path / "2024", tmp_path / out, fresh=True)
    assert recorded_source(tmp_path / out) == source_of(tmp_path / "2024", tmp_path / out)


@OUTS
@pytest.mark.parametrize("record", [b'{"photos": ', b"[]", b'{"photos": 5, "relative": "x"}', b"[" * 3000, b"\xff"])
def test_a_table_whose_record_is_damaged_is_replaced_only_when_told(tmp_path: Path, out: str, record: bytes) -> None:
    """A run of another folder took such a table for its own and removed the rows."""
    path = tmp_path / out
    for folder in ("2023", "2024"):
        put(tmp_path / folder / "a.jpg", folder.encode())
    bring_up_to_date(tmp_path / "2023", path)
    if out.endswith(".csv"):
        sidecar_of(path).write_bytes(record)
    else:
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({b"label_dir": b"1", b"label_dir.source": record}), path)
    before = path.read_bytes()
    for folder in ("2023", "2024"):
        with pytest.raises(UsageError, match=f"{out} does not say any more of which folder it is.*--adopt.*--fresh"):
            bring_up_to_date(tmp_path / folder, path)
    assert path.read_bytes() == before
    assert source_folder(path) is None
    assert bring_up_to_date(tmp_path / "2023", path, adopt=True).kept == 1
    assert bring_up_to_date(tmp_path / "2023", path).kept == 1


def test_a_csv_file_that_pandas_saved_again_in_the_same_order_is_continued(tmp_path: Path) -> None:
    """pandas writes 40.0 where a column has empty cells, and such a table was called damaged."""
    put(tmp_path / "photos" / "a.jpg", b"one")
    put(tmp_path / "photos" / "empty.jpg", b"")
    out = tmp_path / "labels.csv"
    bring_up_to_date(tmp_path / "photos", out)
    pd.read_csv(out).to_csv(out, index=False)
    assert b",1.0,1.0," in out.read_bytes()
    assert bring_up_to_date(tmp_path / "photos", out).kept == 2


def test_a_csv_file_that_pyarrow_saved_again_is_continued(tmp_path: Path) -> None:
    """pyarrow writes times with nanoseconds, and such a table was called damaged."""
    put(tmp_path / "photos" / "a.jpg", b"one")
    out = tmp_path / "labels.csv"
    bring_up_to_date(tmp_path / "photos", out)
    pa_csv.write_csv(pa_csv.read_csv(out), out)
    assert b".000000000Z" in out.read_bytes()
    assert bring_up_to_date(tmp_path / "photos", out).kept == 1
