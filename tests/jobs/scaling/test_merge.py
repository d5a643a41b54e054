"""What `label-merge` promises: every row once, sorted; of rows with one name that of the table named last."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.scaling.merging.merge_tables import Merged, merge_tables
from pipeline.errors import InputMissingError, UsageError
from pipeline.records import Row
from pipeline.tables.schema import to_batch
from pipeline.tables.writer import export

MODEL = "tiny@0123456789ab"
_ROW = Row("", None, ("cat",), (0.5,), 4, 3, 100, 1, "ab" * 32, MODEL, 7)


def written(path: Path, names: list[str], model: str = MODEL) -> Path:
    """Write a table with a row for each of `names`."""
    path.parent.mkdir(exist_ok=True)
    rows = [replace(_ROW, file_name=name, model=model) for name in names]
    export([to_batch(rows, 3)] if rows else [], path, 3)
    return path


def rows_of(path: Path) -> list[tuple[str, str]]:
    return [(row["file_name"], row["model"]) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("seed", range(5))
def test_interleaved_tables_become_one_with_the_newest_row_of_each_name(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.scaling.merging.table_stream._ROWS_PER_PIECE", 7)
    chance = random.Random(seed)
    expected: dict[str, str] = {}
    tables = []
    for number in range(4):
        names = sorted({f"{chance.randrange(90):02d}ü.jpg" for _ in range(chance.randrange(60))})
        tables.append(written(tmp_path / f"{number}.parquet", names, f"m{number}"))
        expected |= dict.fromkeys(names, f"m{number}")
    assert merge_tables(tables, tmp_path / "out.parquet") == Merged(
        len(expected), 1, tuple(sorted(set(expected.values())))
    )
    assert rows_of(tmp_path / "out.parquet") == sorted(expected.items())


def test_parts_are_concatenated_into_as_many_files_as_asked_for(tmp_path: Path) -> None:
    names = [f"{number:03d}.jpg" for number in range(100)]
    for number in range(5):
        written(tmp_path / f"parts/part-{number:05d}.parquet", names[number * 20 : number * 20 + 20])
    written(tmp_path / "parts/part-00005.parquet", [])
    assert merge_tables([tmp_path / "parts"], tmp_path / "files", 3) == Merged(100, 3, (MODEL,))
    files = sorted((tmp_path / "files").iterdir())
    assert [len(rows_of(file)) for file in files] == [33, 33, 34]
    assert [name for file in files for name, _ in rows_of(file)] == names
    with pytest.raises(UsageError, match="not empty"):
        merge_tables([tmp_path / "parts"], tmp_path / "files", 2)


def test_what_does_not_fit_together_is_refused_and_out_stays(tmp_path: Path) -> None:
    out = written(tmp_path / "out.parquet", ["old.jpg"])
    for number, name in enumerate(["b.jpg", "a.jpg"]):
        written(tmp_path / f"parts/part-{number:05d}.parquet", [name])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no table")
    for place, error in {
        "parts": UsageError,
        "empty": InputMissingError,
        "missing.parquet": InputMissingError,
        "text.parquet": InputMissingError,
    }.items():
        with pytest.raises(error):
            merge_tables([tmp_path / place], out)
    assert rows_of(out) == [("old.jpg", MODEL)]
