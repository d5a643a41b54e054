"""The true classes of photos that a model is certified with come from whatever table lies beside them, or from none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.workshop.photos import DecodedPhoto, photos_of
from models.errors import InputMissingError

_LABELS = ("cat", "dog")


def classes_of(folder: Path, *names: str) -> list[int] | None:
    sample = [DecodedPhoto(name, np.zeros((2, 2, 3), np.uint8), "") for name in names]
    photos = photos_of(sample, folder, "", _LABELS)
    assert photos is not None
    return None if photos.classes is None else photos.classes.tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def test_classes_are_read_by_index_or_by_name_also_as_spreadsheets_write_them(folder: Path) -> None:
    table = folder.with_name("photos.csv")
    table.write_text("\ufefffile_name,class_index\na.jpg,1\nb.jpg,0\n", encoding="utf-8")
    assert classes_of(folder, "a.jpg", "b.jpg") == [1, 0]
    table.write_text("file_name,category\na.jpg,dog\n", encoding="utf-8")
    assert classes_of(folder, "a.jpg") == [1]


@pytest.mark.parametrize("row", ["a.jpg", "a.jpg,\u00b2", "a.jpg," + "9" * 20, "a.jpg,2", "a.jpg,-1", "", ",1"])
def test_a_row_that_names_no_class_of_the_model_leaves_its_photo_without_one(folder: Path, row: str) -> None:
    folder.with_name("photos.csv").write_text(f"file_name,class_index\n{row}\nb.jpg,1\n", encoding="utf-8")
    assert classes_of(folder, "a.jpg", "b.jpg") is None
    assert classes_of(folder, "b.jpg") == [1]


def test_a_table_that_cannot_be_read_is_named_in_a_sentence(folder: Path) -> None:
    folder.with_name("photos.csv").write_bytes("file_name,category\na.jpg,K\u00e4se\n".encode("latin-1"))
    with pytest.raises(InputMissingError, match=r"photos\.csv is no CSV file in UTF-8"):
        classes_of(folder, "a.jpg")
