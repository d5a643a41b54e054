"""A run writes what persons said as the column `reviewed_label`, by content; no model ever overwrites it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline.errors import ExitCode
from pipeline.reviews.decisions import ReviewKind
from pipeline.reviews.review_file import reviews_path
from pipeline.reviews.reviewed_labels import read_reviewed_rows, reviewed_photos, table_of
from tests.conftest import Command, write_photos
from tests.support.review_kit import review, reviewed

OUTS = ("out.parquet", "out.csv")
EACH_KIND = pytest.mark.parametrize("out", OUTS)


@EACH_KIND
def test_a_run_writes_reviews_for_kept_renamed_changed_and_new_rows_by_content(
    label_dir: Command, tmp_path: Path, out: str
) -> None:
    photos, table = tmp_path / "photos", tmp_path / out
    first, second, third, fourth = sorted(write_photos(photos, 4))
    assert label_dir("photos", out).returncode == 0
    for name, label in ((first, "=1+1"), (second, "tiger"), (third, "wolf")):
        review(table, photos / name, label)
    done = label_dir("photos", out)
    assert done.stderr.startswith("0 labelled, 4 unchanged")
    assert "new reviews taken over" in done.stderr
    expected = {first: "'=1+1" if out.endswith(".csv") else "=1+1", second: "tiger", third: "wolf"}
    assert reviewed(table) == expected
    assert read_reviewed_rows(table).column("reviewed_label").to_pylist() == ["=1+1", "tiger", "wolf", None]

    (photos / second).rename(photos / "zz.png")
    (photos / "copy.png").write_bytes((photos / first).read_bytes())
    Image.new("RGB", (50, 50), (255, 0, 0)).save(photos / third)
    review(table, photos / fourth, None, kind=ReviewKind.UNKNOWN)
    assert label_dir("photos", out).returncode == 0
    assert reviewed(table) == {
        first: expected[first],
        "copy.png": expected[first],
        "zz.png": "tiger",
        fourth: "unknown",
    }


@EACH_KIND
def test_no_run_of_a_model_overwrites_a_review_and_a_run_without_news_leaves_the_table_alone(
    label_dir: Command, tmp_path: Path, out: str
) -> None:
    photos, table = tmp_path / "photos", tmp_path / out
    first, *_ = sorted(write_photos(photos, 3))
    assert label_dir("photos", out).returncode == 0
    review(table, photos / first, "tiger")
    assert label_dir("photos", out).returncode == 0
    before = table.stat()
    assert label_dir("photos", out).returncode == 0
    assert table.stat().st_mtime_ns == before.st_mtime_ns
    assert label_dir("photos", out, "--fresh").returncode == 0
    assert reviewed(table) == {first: "tiger"}


def test_an_undone_review_leaves_the_table_with_the_next_run(label_dir: Command, tmp_path: Path) -> None:
    photos, table = tmp_path / "photos", tmp_path / "out.parquet"
    first, *_ = sorted(write_photos(photos, 3))
    assert label_dir("photos", table).returncode == 0
    review(table, photos / first, "tiger")
    assert label_dir("photos", table).returncode == 0
    review(table, photos / first, None, 1, ReviewKind.UNDO)
    assert label_dir("photos", table).returncode == 0
    assert reviewed(table) == {}


@EACH_KIND
def test_a_table_whose_reviews_file_is_away_keeps_what_it_says(label_dir: Command, tmp_path: Path, out: str) -> None:
    photos, table = tmp_path / "photos", tmp_path / out
    first, *_ = sorted(write_photos(photos, 3))
    assert label_dir("photos", out).returncode == 0
    review(table, photos / first, "tiger")
    assert label_dir("photos", out).returncode == 0
    reviews_path(table).unlink()
    Image.new("RGB", (50, 50), (255, 0, 0)).save(photos / "zz.png")
    assert label_dir("photos", out).stderr.startswith("1 labelled, 3 unchanged")
    assert reviewed(table) == {first: "tiger"}


def test_a_column_of_that_name_of_another_program_makes_way_for_the_reviews(label_dir: Command, tmp_path: Path) -> None:
    photos, table = tmp_path / "photos", tmp_path / "out.parquet"
    first, *_ = sorted(write_photos(photos, 3))
    assert label_dir("photos", table).returncode == 0
    frame = pd.read_parquet(table)
    frame.insert(3, "reviewed_label", [1, 2, 3])
    frame.assign(shelf="A 1").to_parquet(table)
    review(table, photos / first, "tiger")
    assert label_dir("photos", table).returncode == 0
    assert reviewed(table) == {first: "tiger"}
    assert list(pd.read_parquet(table)["shelf"]) == ["A 1"] * 3


def test_reviews_that_cannot_be_read_end_a_run_before_it_labels(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    (tmp_path / "out.reviews.sqlite").write_bytes(b"no database" * 100)
    done = label_dir("photos", "out.parquet")
    assert done.returncode == ExitCode.INPUT_MISSING
    assert "out.reviews.sqlite is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_reviewed_photos_are_found_through_the_table_each_content_once(label_dir: Command, tmp_path: Path) -> None:
    photos, table = tmp_path / "photos", tmp_path / "out.parquet"
    first, second, third = sorted(write_photos(photos, 3))
    (photos / "copy.png").write_bytes((photos / first).read_bytes())
    assert label_dir("photos", table).returncode == 0
    sha256 = review(table, photos / first, "tiger")
    review(table, photos / second, None, kind=ReviewKind.UNKNOWN)
    found = list(reviewed_photos(reviews_path(table), table))
    assert [(photo.file_name, photo.sha256, photo.label) for photo in found] == [(first, sha256, "tiger")]
    assert table_of(reviews_path(table)) == table
    assert third not in {photo.file_name for photo in found}
