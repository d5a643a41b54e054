"""A table may be anything: the commands that read it end well or with one sentence, and never lose a photo's row."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report.facts import facts_of
from jobs.report.table_query import Query, show
from pipeline.gone_guard import GoneLimit
from pipeline.reviews.reviewed_labels import read_reviewed_rows
from pipeline.tables.reader import read_rows, rows_in
from tests.support.bytes_labeller import bring_up_to_date, put
from tests.trial.damage import SCRATCH, damaged, examples, refused
from tests.trial.tables import odd_csv, odd_parquet

PHOTOS = {"a.jpg": b"one", "b.jpg": b"two", "c.jpg": b"", "sub/d.jpg": b"four", "\u00e9.jpg": b"five5"}


@cache
def valid_table(suffix: str) -> bytes:
    with folder_of_photos() as folder:
        bring_up_to_date(folder / "photos", folder / f"out{suffix}")
        return (folder / f"out{suffix}").read_bytes()


@contextmanager
def folder_of_photos() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=SCRATCH))
    try:
        for name, content in PHOTOS.items():
            put(folder / "photos" / name, content)
        yield folder
    finally:
        shutil.rmtree(folder)


def check_commands(content: bytes, suffix: str) -> None:
    with folder_of_photos() as folder:
        out = folder / f"out{suffix}"
        out.write_bytes(content)
        refused(lambda: rows_in(out))
        refused(lambda: shown(out))
        if refused(lambda: bring_up_to_date(folder / "photos", out, gone_limit=GoneLimit(1.0))):
            assert out.read_bytes() == content
        else:
            assert read_rows(out).column("file_name").to_pylist() == sorted(PHOTOS)


def shown(out: Path) -> None:
    rows = read_reviewed_rows(out)
    json.dumps(asdict(facts_of(rows)))
    for query in (Query(), Query(errors=True), Query(errors=True, count=True), Query(sort="prob"), Query(label="x")):
        list(show(rows, query)[0])


@examples(120)
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_damaged_table_is_refused_or_brought_up_to_date(suffix: str, data: st.DataObject) -> None:
    check_commands(data.draw(damaged(valid_table(suffix))), suffix)


@examples(300)
@given(data=st.data())
def test_a_parquet_table_with_odd_columns_and_cells_is_refused_or_brought_up_to_date(data: st.DataObject) -> None:
    check_commands(data.draw(odd_parquet(pq.read_table(pa.BufferReader(valid_table(".parquet"))))), ".parquet")


@examples(300)
@given(data=st.data())
def test_a_csv_table_with_odd_columns_and_cells_is_refused_or_brought_up_to_date(data: st.DataObject) -> None:
    check_commands(data.draw(odd_csv(valid_table(".csv").decode())), ".csv")
