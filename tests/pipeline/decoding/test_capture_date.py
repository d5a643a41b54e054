"""The day a photo was taken: a day of the calendar, and asked for again where the file could not be read."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from pipeline.decoding.capture_date import day_in_exif, days_taken


def photo_taken(taken: str) -> bytes:
    """Return a JPEG whose EXIF data say when it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = taken
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("taken", "day"),
    [
        ("2021:02:28 10:00:00", "2021-02-28"),
        ("2020:02:29 10:00:00", "2020-02-29"),
        ("2021:02:29 10:00:00", None),
        ("2021:02:31 10:00:00", None),
        ("2021:04:31 10:00:00", None),
        ("2021:13:01 10:00:00", None),
        ("0000:00:00 00:00:00", None),
        ("2021:02", None),
        ("", None),
    ],
)
def test_a_day_that_no_calendar_has_is_no_day(taken: str, day: str | None) -> None:
    """Case 40: `2021:02:31` became a partition that pandas refuses."""
    assert day_in_exif(photo_taken(taken)) == day


def test_a_photo_that_cannot_be_read_now_is_asked_again(tmp_path: Path) -> None:
    """Case 9: a share that was away made every day unknown for ever."""
    contents = {name: photo_taken(f"2021:03:0{number} 10:00:00") for number, name in enumerate(("a", "b"), 1)}
    paths = {hashlib.sha256(content).hexdigest(): str(tmp_path / name) for name, content in contents.items()}
    first, second = paths
    (tmp_path / "a").write_bytes(contents["a"])
    cache = tmp_path / "cache.parquet"
    assert days_taken(paths, cache, 1) == {first: "2021-03-01", second: None}
    # Other bytes under its name say nothing of the photo either.
    (tmp_path / "b").write_bytes(b"other")
    assert days_taken(paths, cache, 1)[second] is None
    (tmp_path / "b").write_bytes(contents["b"])
    # The day of the first is kept: its file is not opened again.
    os.truncate(tmp_path / "a", 0)
    assert days_taken(paths, cache, 1) == {first: "2021-03-01", second: "2021-03-02"}
