"""A run brings the table up to date: unchanged photos are not opened, moved photos keep their labels."""

from __future__ import annotations

import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact
from tests.conftest import run_label_dir, write_photos

OUTS = ("out.parquet", "out.csv")
EACH_KIND = pytest.mark.parametrize("out", OUTS)
HARD_NAMES = [
    "=1+1.png",
    "a,b.png",
    'q"uote.png',
    "new\nline.png",
    "carriage\rreturn.png",
    "x\\x5c.png",
    "ü.png",
    " .png",
]


@pytest.fixture(scope="module")
def labelled(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose photos were labelled, once into a table of each kind."""
    home = tmp_path_factory.mktemp("labelled")
    write_photos(home / "photos", 12)
    for name, photo in zip(HARD_NAMES, sorted((home / "photos").iterdir()), strict=False):
        photo.rename(home / "photos" / name)
    (home / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    for out in OUTS:
        assert _run(tiny_model, home, "photos", out).startswith("12 labelled, 1 failed (1 truncated)")
    return home


@pytest.fixture
def home(labelled: Path, tmp_path: Path) -> Path:
    """A copy of the labelled folder with the same times, for one test to change."""
    return shutil.copytree(labelled, tmp_path / "home")


def _run(model: Artifact, home: Path, *arguments: str) -> str:
    done = run_label_dir(model, *arguments, cwd=home)
    assert done.returncode in (0, 3), done.stderr
    return done.stderr.splitlines()[-1]


def _rows(path: Path) -> list[dict[Hashable, Any]]:
    table = pd.read_csv(path, keep_default_na=False) if path.suffix == ".csv" else pq.read_table(path).to_pandas()
    rows: list[dict[Hashable, Any]] = table.drop(columns="labelled_at").astype(str).to_dict("records")
    return rows


@EACH_KIND
def test_only_changed_photos_are_labelled_and_an_unchanged_table_keeps_its_bytes(
    tiny_model: Artifact, home: Path, out: str
) -> None:
    kept = (home / out).read_bytes()
    assert _run(tiny_model, home, "photos", out).startswith("0 labelled, 13 unchanged (without a label: 1 truncated)")
    assert (home / out).read_bytes() == kept
    Image.new("RGB", (77, 77), (0, 255, 0)).save(home / "photos" / "zz.png")
    assert _run(tiny_model, home, "photos", out).startswith("1 labelled, 13 unchanged")
    assert (home / out).read_bytes() != kept
    (home / "photos" / "zz.png").unlink()
    assert "1 gone" in _run(tiny_model, home, "photos", out)
    assert (home / out).read_bytes() == kept


@EACH_KIND
def test_moved_and_copied_photos_get_the_same_row_as_by_labelling_them_again(
    tiny_model: Artifact, home: Path, out: str
) -> None:
    (home / "photos").rename(home / "moved")
    (home / "photos").mkdir()
    (home / "moved").rename(home / "photos" / "sub folder")
    for name in HARD_NAMES[:3]:
        shutil.copy(home / "photos" / "sub folder" / name, home / "photos" / name)
    write_photos(home / "photos" / "new", 20)
    assert _run(tiny_model, home, "photos", out).startswith("8 labelled, 27 known by their bytes, 1 failed")
    rows = _rows(home / out)
    assert _run(tiny_model, home, "--fresh", "photos", out).startswith("35 labelled, 1 failed")
    assert _rows(home / out) == rows


def test_labels_of_another_model_are_not_reused(tiny_model: Artifact, home: Path) -> None:
    (home / "photos").rename(home / "moved")
    table = pq.read_table(home / "out.parquet")
    column = table.schema.get_field_index("model")
    others = ["other@0123456789ab"] * len(table)
    pq.write_table(table.set_column(column, table.schema.field(column), [others]), home / "out.parquet")
    assert "12 labelled, 1 failed" in _run(tiny_model, home, "--adopt", "moved", "out.parquet")


def test_a_photo_whose_bytes_changed_under_its_old_name_is_labelled_again(tiny_model: Artifact, home: Path) -> None:
    photo = home / "photos" / "ü.png"
    Image.new("RGB", (77, 77), (0, 255, 0)).save(photo)
    assert _run(tiny_model, home, "photos", "out.parquet").startswith("1 labelled, 12 unchanged")
    assert pq.read_table(home / "out.parquet", filters=[("file_name", "=", "ü.png")])["label_1"].to_pylist() == [
        "green"
    ]
