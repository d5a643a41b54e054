"""The process map: a crash or a hang costs its own item alone, whatever limits the process inherits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from pipeline.system.process_map import process_map


def _double(number: int) -> int:
    if number == 3:
        os.abort()
    if number == 5:
        time.sleep(1e6)
    return number * 2


def test_an_item_that_crashes_or_hangs_costs_only_itself() -> None:
    done = dict(process_map(_double, range(8), 2, 5.0))
    assert done == {number: None if number in (3, 5) else number * 2 for number in range(8)}


def test_no_items_start_no_process() -> None:
    assert list(process_map(_double, [], 2, 5.0)) == []


def test_thumbnails_are_made_and_dates_read_under_a_lower_hard_limit_of_memory(tmp_path: Path) -> None:
    """Case 28."""
    photo = Image.new("RGB", (50, 40), (200, 10, 10))
    exif = Image.Exif()
    exif[306] = "2024:05:06 07:08:09"
    photo.save(tmp_path / "photo.jpg", exif=exif)
    program = f"""
import hashlib, resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from pathlib import Path
from pipeline.decoding.capture_date import days_taken
from pipeline.decoding.thumbnail import ThumbnailOrder, make_thumbnails, read_thumbnail
folder = Path({str(tmp_path)!r})
photo = str(folder / "photo.jpg")
sha256 = hashlib.sha256(Path(photo).read_bytes()).hexdigest()
made = list(make_thumbnails([ThumbnailOrder(0, photo, sha256, 16)], 1))
print([state.value for _, state in made], len(read_thumbnail(sha256, 16)) > 0)
print(list(days_taken({{sha256: photo}}, folder / "days.parquet", 1).values()))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.splitlines() == ["['same'] True", "['2024-05-06']"], done.stderr
