from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline.decoding.thumbnail import cached_path
from tests.conftest import Command, command_path, write_photos


def write_page(folder: Path, *arguments: object, code: int = 0) -> str:
    """Return what `label-report`, run in `folder` with a cache of its own, wrote to stderr."""
    done = subprocess.run(
        [command_path("label-report"), *map(str, arguments)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def data_of(page: Path) -> dict[str, list[object]]:
    """Return the data inside a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    data: dict[str, list[object]] = json.loads(found[1])
    return data


def test_the_page_holds_every_photo_least_certain_first_and_every_failure(
    label_dir: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", 30)
    (tmp_path / "photos" / "broken.jpg").touch()
    assert label_dir("photos", "out.parquet").returncode == 3
    assert "31 photos, 1 failed" in write_page(tmp_path, "out.parquet", "page.html")
    data = data_of(tmp_path / "page.html")
    rows = pd.read_parquet(tmp_path / "out.parquet").query("status == 'ok'")
    assert data["names"] == list(rows.sort_values(["prob_1", "file_name"])["file_name"])
    assert data["failures"] == [["broken.jpg", "empty", "the file has no bytes"]]
    text = (tmp_path / "page.html").read_text()
    thumbnails = [line for chunk in re.findall(r'id="thumbnails-\d+">([^<]*)<', text) for line in chunk.split("\n")]
    assert len(thumbnails) == 30
    assert all(line.startswith("UklGR") for line in thumbnails)
    assert not re.search(r'(src|href)="?(https?:)?//', text)

    # Thumbnails are made once, and again only where one is damaged.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [cached_path(sha256, 192) for sha256 in rows["sha256"]]
    inodes = [path.stat().st_ino for path in paths]
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    write_page(tmp_path, "out.parquet", "page.html")
    assert [path.stat().st_ino == inode for path, inode in zip(paths, inodes, strict=True)].count(False) == 1
    with Image.open(paths[1]) as thumbnail:
        assert thumbnail.size == (192, 192)


def test_the_page_lists_what_changed_since_the_page_before(label_dir: Command, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = sorted(write_photos(photos, 8))
    label_dir("photos", "out.csv")
    write_page(tmp_path, "out.csv", "page.html")
    assert "with another label" not in (tmp_path / "page.html").read_text()
    (photos / names[0]).unlink()
    Image.new("RGB", (40, 33), (255, 255, 255)).save(photos / names[2])
    (photos / names[3]).write_bytes(b"")
    Image.new("RGB", (40, 33), (0, 0, 0)).save(photos / "new.png")
    label_dir("photos", "out.csv")
    for _ in range(2):
        write_page(tmp_path, "out.csv", "page.html")
        text = re.sub(r"<[^>]+>", "", (tmp_path / "page.html").read_text())
        told = re.search(r"(\d+) new,\s+(\d+) gone,\s+(\d+) with another label,\s+(\d+) newly failing", text)
        assert told
        assert told.groups() == ("1", "1", "1", "1")
        assert f"{names[2]}redwhite" in text


def test_a_page_is_written_without_the_photos_and_for_a_table_without_rows(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "elsewhere" / "photos", 3)
    (tmp_path / "none").mkdir()
    label_dir("elsewhere/photos", "out.parquet")
    assert "no thumbnails; name them with --photos" in write_page(tmp_path, "out.parquet", "page.html")
    assert data_of(tmp_path / "page.html")["base"] is None
    label_dir("none", "none.csv")
    write_page(tmp_path, "none.csv", "none.html")
    assert data_of(tmp_path / "none.html")["names"] == []


def test_a_table_that_cannot_be_reported_is_refused_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "foreign.csv").write_text("a,b\n")
    assert "is not a table of label-dir" in write_page(tmp_path, "foreign.csv", "page.html", code=2)
    assert "does not exist" in write_page(tmp_path, "missing.parquet", "page.html", code=66)
    assert "must end in .html" in write_page(tmp_path, "foreign.csv", "page.pdf", code=2)
