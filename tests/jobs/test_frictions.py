"""What is not decoded is told by its kind, and photos that calibrate a model may harm no command."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jobs.workshop.photos import decoded_sample
from models.spec import Crop
from tests.conftest import Command, write_photos

_POISON = Path(__file__).parents[1] / "faults" / "poison"


def test_files_that_look_like_photos_and_are_not_decoded_are_told_by_kind(label_dir: Command, tmp_path: Path) -> None:
    """A card of a camera with raw files gave "0 labelled, 700 skipped"."""
    photos = tmp_path / "photos"
    write_photos(photos / "sub", 1)
    for name in ("a.CR2", "sub/b.cr2", "c.NEF", "d.ARW", "e.dng", "f.jxl", "IMG_0001", "notes.txt", "g.mp4"):
        (photos / name).touch()
    done = label_dir("photos", "out.parquet")
    told = re.findall(r"9 skipped \(kinds that are not decoded: ([^)]*)\)", done.stderr)[0].split(", ")
    assert told[0] == "2 .cr2"
    assert sorted(told) == ["1 .arw", "1 .dng", "1 .jxl", "1 .nef", "1 without an ending", "2 .cr2"]
    # What a person excludes, or includes instead, needs no word.
    assert "not decoded" not in label_dir("--exclude", "*.*2", "--exclude", "[c-fI]*", "photos", "out.csv").stderr
    assert "not decoded" not in label_dir("--include", "*.png", "photos", "out.csv").stderr


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_the_error_of_a_heic_photo_names_the_package_that_decodes_it(label_dir: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    assert label_dir("photos", "out.csv").returncode == 3
    (error,) = pd.read_csv(tmp_path / "out.csv")["error"]
    assert error == "unsupported_format: HEIF is decoded by pillow-heif, which is not installed"


def test_a_photo_that_ends_its_decoder_is_left_out_of_a_sample_and_harms_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos for calibration were decoded in the process of the command."""
    expected = write_photos(tmp_path / "photos", 12)
    text = PngInfo()
    text.add_text("Comment", "POISON:abort;")
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "00005-poison.png", pnginfo=text)
    (tmp_path / "photos" / "00006-broken.png").write_bytes(b"no photo")
    monkeypatch.setenv("PYTHONPATH", str(_POISON))
    drawn = [list(decoded_sample(tmp_path / "photos", Crop(8, 8, "bilinear"), 7)) for _ in range(2)]
    assert sorted(photo.name for photo in drawn[0]) == sorted(expected)
    # The sample depends on the seed alone, not on which process was faster.
    assert [photo.name for photo in drawn[0]] == [photo.name for photo in drawn[1]]
    assert [photo.name for photo in drawn[0]] != sorted(expected)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(*drawn, strict=True))
