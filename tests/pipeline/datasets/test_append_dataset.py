"""Parts of a dataset as they are found at a start: no durable row goes, and the index has no row that is gone."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd
import pytest

from pipeline.datasets.append_dataset import INDEX_NAME, AppendDataset
from pipeline.datasets.row_index import entry_of
from pipeline.records import FileRef, Row
from pipeline.tables.part_store import state_folder
from pipeline.tables.reader import rows_as_stored
from tests.support.watch_kit import digest


def _row(name: str, content: bytes) -> Row:
    at_us = 1_790_000_000_000_000
    return Row(name, None, ("x",), (1.0,), 1, 1, len(content), 5, digest(content), "fake@0", at_us)


@contextmanager
def opened(labels: Path, part_format: str = "parquet") -> Iterator[AppendDataset]:
    labels.mkdir(exist_ok=True)
    state_folder(labels).mkdir(exist_ok=True)
    with closing(AppendDataset(labels, part_format, 1, rows_per_part=50)) as dataset:
        yield dataset


def add(dataset: AppendDataset, name: str, content: bytes) -> bool:
    row = _row(name, content)
    is_taken = dataset.add(row, entry_of(row))
    dataset.commit()
    return is_taken


def rows_of(labels: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for path in sorted(labels.glob("date=*/part-*")):
        rows = rows_as_stored(path)
        found += [
            (str(row["file_name"]), str(row["sha256"])) for row in rows.select(["file_name", "sha256"]).to_pylist()
        ]
    return found


@pytest.mark.parametrize("part_format", ["parquet", "csv"])
def test_every_row_of_a_name_that_was_used_again_stays_after_a_restart(tmp_path: Path, part_format: str) -> None:
    """A CSV part lost the row of the first photo, which `--done delete` may have deleted."""
    labels = tmp_path / "labels"
    with opened(labels, part_format) as dataset:
        add(dataset, "a.jpg", b"one")
        add(dataset, "a.jpg", b"two")
    with opened(labels, part_format) as dataset:
        add(dataset, "b.jpg", b"three")
    assert rows_of(labels) == [
        ("a.jpg", digest(b"one")),
        ("a.jpg", digest(b"two")),
        ("b.jpg", digest(b"three")),
    ]


def test_rows_that_went_with_a_backup_are_not_taken_for_rows_that_are_there(tmp_path: Path) -> None:
    """The index had them still: such a photo got no row again, and `--done delete` deleted the photo without one."""
    labels = tmp_path / "labels"
    with opened(labels) as dataset:
        add(dataset, "a.jpg", b"one")
    shutil.copytree(labels, tmp_path / "backup")
    with opened(labels) as dataset:
        add(dataset, "b.jpg", b"two")
    shutil.rmtree(labels)
    (tmp_path / "backup").rename(labels)
    with opened(labels) as dataset:
        assert set(dataset.find([FileRef("b.jpg", "b.jpg", 3, 5), FileRef("a.jpg", "a.jpg", 3, 5)])) == {"a.jpg"}
        assert add(dataset, "b.jpg", b"two")
        assert not add(dataset, "a.jpg", b"one")
    assert len(rows_of(labels)) == 2


def test_a_part_that_grew_before_a_crash_is_read_on_from_the_rows_that_are_known(tmp_path: Path) -> None:
    labels, saved = tmp_path / "labels", tmp_path / "index"
    index = state_folder(labels) / INDEX_NAME
    with opened(labels) as dataset:
        row = _row("a.jpg", b"one")
        dataset.add(row, entry_of(row, FileRef("a.jpg", "a.jpg", 3, 5, inode=7, ctime_ns=9)))
        dataset.commit()
    shutil.copy(index, saved)
    with opened(labels) as dataset:
        add(dataset, "b.jpg", b"two")
    shutil.copy(saved, index)
    with opened(labels) as dataset:
        assert set(dataset.find([FileRef("b.jpg", "b.jpg", 3, 5)])) == {"b.jpg"}
        # What was known of the file besides its row is known still.
        assert not dataset.find([FileRef("a.jpg", "a.jpg", 3, 5, inode=7, ctime_ns=10)])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE photo SET identity = 'text'",
        "UPDATE photo SET size_bytes = 'x'",
        "UPDATE photo SET mtime_us = NULL",
        "UPDATE part SET path = x'ff'",
        "UPDATE part SET rows = 'x'",
        "DROP TABLE photo",
        "ALTER TABLE photo ADD COLUMN x",
        "CREATE TRIGGER x AFTER INSERT ON photo BEGIN DELETE FROM part; END",
    ],
)
def test_an_index_of_odd_values_is_built_again(tmp_path: Path, statement: str) -> None:
    """Values of a wrong type were a traceback, and an index with other columns kept the daemon from starting."""
    labels = tmp_path / "labels"
    with opened(labels) as dataset:
        add(dataset, "a.jpg", b"one")
    with closing(sqlite3.connect(state_folder(labels) / INDEX_NAME)) as index:
        index.execute(statement)
        index.commit()
    with opened(labels) as dataset:
        assert set(dataset.find([FileRef("a.jpg", "a.jpg", 3, 5)])) == {"a.jpg"}
        assert not add(dataset, "a.jpg", b"one")
        assert add(dataset, "b.jpg", b"two")


def test_a_part_that_another_program_saved_again_is_left_as_it_is(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    with opened(labels) as dataset:
        add(dataset, "a.jpg", b"one")
    (part,) = labels.glob("date=*/part-*")
    pd.read_parquet(part).assign(shelf="A 1").to_parquet(part)
    before = part.read_bytes()
    with opened(labels) as dataset:
        assert not add(dataset, "a.jpg", b"one")
        assert add(dataset, "b.jpg", b"two")
    assert part.read_bytes() == before
    assert sorted(rows_of(labels)) == [("a.jpg", digest(b"one")), ("b.jpg", digest(b"two"))]
