"""Which photos are of which class: folders, tables as people write them, reviews; and what is told of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.workshop.teaching_files import BrokenPhoto, labelled_files
from models.errors import InputMissingError, UsageError
from pipeline.reviews.decisions import ReviewKind
from pipeline.reviews.review_file import reviews_path
from tests.conftest import Command, write_photos
from tests.jobs.test_teaching import COLOURS, write_class
from tests.support.review_kit import review


def labels_of(folder: Path, table: Path) -> dict[str, str | None]:
    return {file.ref.name: file.label for file in labelled_files(folder, table, None, None)[0]}


@pytest.mark.parametrize(
    "content",
    [
        b"file_name,label\nx/000.png,milk\nx/001.png,juice\n",
        b"\xef\xbb\xbffile_name;label\r\nx/000.png;milk\r\nx/001.png;juice\r\n",
        b"label\tprice\tfile_name\nmilk\t1,5\t./x/000.png\njuice\t2\tx/001.png\n",
        b'file_name,label\n"x/000.png" , milk \nx/001.png,juice\nx/001.png,juice\nx/002.png\n,cheese\n',
    ],
    ids=["plain", "German spreadsheet", "tabs", "spaces, doubled and short rows"],
)
def test_a_table_of_labels_is_read_as_spreadsheets_write_it(tmp_path: Path, content: bytes) -> None:
    write_class(tmp_path / "p" / "x", COLOURS[0], 3, 0)
    table = tmp_path / "labels.csv"
    table.write_bytes(content)
    assert labels_of(tmp_path / "p", table) == {"x/000.png": "milk", "x/001.png": "juice"}


def test_rows_of_photos_that_are_missing_or_have_two_labels_are_told_of(tmp_path: Path) -> None:
    write_class(tmp_path / "p", COLOURS[0], 3, 0)
    table = tmp_path / "labels.csv"
    table.write_text("file_name,label\n000.png,milk\n001.png,milk\n001.png,juice\ngone.png,milk\n../secret.png,milk\n")
    files, broken = labelled_files(tmp_path / "p", table, None, None)
    assert [(file.ref.name, file.label) for file in files] == [("000.png", "milk")]
    assert sorted((one.name, one.reason) for one in broken) == [
        ("../secret.png", "is in the table of labels and not in the folder"),
        ("001.png", "has two labels in the table of labels"),
        ("002.png", "not in the table of labels"),
        ("gone.png", "is in the table of labels and not in the folder"),
    ]


def test_a_table_that_fits_no_photo_says_what_file_names_are_relative_to(tmp_path: Path) -> None:
    write_class(tmp_path / "p", COLOURS[0], 1, 0)
    table = tmp_path / "labels.csv"
    table.write_text("file_name,label\nelsewhere/000.png,milk\n")
    with pytest.raises(InputMissingError, match="file_name is the way to a photo from"):
        labelled_files(tmp_path / "p", table, None, None)


def test_folders_of_judges_and_of_unknown_photos_may_lie_among_the_classes_and_are_none(tmp_path: Path) -> None:
    products = tmp_path / "p"
    write_class(products / "milk", COLOURS[0], 2, 0)
    write_class(products / "judges" / "milk", COLOURS[0], 2, 1)
    write_class(products / "floors", COLOURS[1], 2, 2)
    files, _ = labelled_files(products, None, products / "judges", products / "floors")
    found = [(file.ref.name, file.label, file.held_out) for file in files]
    assert sorted(found, key=str) == [
        ("floors/000.png", None, False),
        ("floors/001.png", None, False),
        ("judges/milk/000.png", "milk", True),
        ("judges/milk/001.png", "milk", True),
        ("milk/000.png", "milk", False),
        ("milk/001.png", "milk", False),
    ]
    with pytest.raises(UsageError, match="cannot be both"):
        labelled_files(products, None, None, tmp_path / "q" / ".." / "p")


def test_an_empty_folder_that_was_meant_as_a_class_is_told_of(tmp_path: Path) -> None:
    write_class(tmp_path / "p" / "drinks" / "milk", COLOURS[0], 1, 0)
    (tmp_path / "p" / "drinks" / "juice").mkdir()
    (tmp_path / "p" / ".thumbnails").mkdir()
    _, broken = labelled_files(tmp_path / "p", None, None, None)
    assert broken == [BrokenPhoto("drinks/juice", "holds no photo, so it is no class")]


def test_reviews_without_a_confirmed_label_are_a_sentence(label_dir: Command, tmp_path: Path) -> None:
    photos, table = tmp_path / "photos", tmp_path / "out.parquet"
    first, *_ = sorted(write_photos(photos, 2))
    assert label_dir("photos", "out.parquet").returncode == 0
    review(table, photos / first, None, kind=ReviewKind.UNKNOWN)
    with pytest.raises(InputMissingError, match="nobody has confirmed or corrected the label of a photo in"):
        labelled_files(photos, None, None, None, reviews_path(table))
