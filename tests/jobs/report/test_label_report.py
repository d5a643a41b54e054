from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.decoding.thumbnail import cached_path
from pipeline.tables.source import source_metadata, source_of
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


def data_of(page: Path) -> dict[str, Any]:
    """Return the data inside a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
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
    (tmp_path / "elsewhere" / "photos").rename(tmp_path / "elsewhere" / "moved")
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


def thumbnails_of(page: Path) -> dict[object, str]:
    """Return the thumbnail of each photo of a page, empty where it has none."""
    chunks = re.findall(r'id="thumbnails-\d+">([^<]*)<', page.read_text())
    return dict(zip(data_of(page)["names"], "\n".join(chunks).split("\n"), strict=True))


def write_fixed_size_photo(path: Path, colour: tuple[int, int, int]) -> None:
    """Write a photo that differs from others by its content alone: its size and time are those of all."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 33), colour).save(path, "BMP")
    os.utime(path, (1e9, 1e9))


def record_source(table: Path, photos: Path) -> None:
    """Put into `table` that it is of the folder `photos`."""
    rows = pq.read_table(table)
    metadata = {**rows.schema.metadata, **source_metadata(source_of(photos, table))}
    pq.write_table(rows.replace_schema_metadata(metadata), table)


def test_a_folder_with_files_of_the_same_names_is_never_shown_as_the_tables_own(
    label_dir: Command, tmp_path: Path
) -> None:
    """Cases 2 and 3: names, sizes and times are equal in both folders, the photos are not."""
    (tmp_path / "far").mkdir()
    write_fixed_size_photo(tmp_path / "far" / "2024" / "a.bmp", (255, 0, 0))
    write_fixed_size_photo(tmp_path / "2023" / "a.bmp", (0, 0, 255))
    label_dir("far/2024", "out.parquet")
    record_source(tmp_path / "out.parquet", tmp_path / "unmounted")
    for _ in range(2):
        assert "1 files are no longer the photos of their rows" in write_page(tmp_path, "out.parquet", "page.html")
        assert data_of(tmp_path / "page.html")["changed"] == [0]
        assert thumbnails_of(tmp_path / "page.html") == {"a.bmp": ""}
    write_page(tmp_path, "out.parquet", "page.html", "--photos", "far/2024")
    assert data_of(tmp_path / "page.html")["changed"] == []
    assert thumbnails_of(tmp_path / "page.html")["a.bmp"]
    # The thumbnail that is now cached is not one of the photo in the other folder.
    write_page(tmp_path, "out.parquet", "page.html", "--photos", "2023")
    assert data_of(tmp_path / "page.html")["changed"] == [0]
    assert thumbnails_of(tmp_path / "page.html") == {"a.bmp": ""}


def test_photos_are_looked_for_first_where_the_table_says(label_dir: Command, tmp_path: Path) -> None:
    """Case 2."""
    away = tmp_path / "away"
    away.mkdir()
    write_fixed_size_photo(away / "photos" / "a.bmp", (255, 0, 0))
    write_fixed_size_photo(tmp_path / "2023" / "a.bmp", (0, 0, 255))
    label_dir("away/photos", "out.parquet")
    record_source(tmp_path / "out.parquet", away / "photos")
    write_page(tmp_path, "out.parquet", "page.html")
    data = data_of(tmp_path / "page.html")
    assert (data["base"], data["changed"]) == ("./away/photos/", [])
    # Table and photos have moved together.
    moved = tmp_path / "moved"
    moved.mkdir()
    away.rename(moved / "away")
    (tmp_path / "out.parquet").rename(moved / "out.parquet")
    write_page(tmp_path, "moved/out.parquet", "page.html")
    assert data_of(tmp_path / "page.html")["base"] == "./moved/away/photos/"


def test_a_photo_that_changed_is_shown_as_changed_and_a_photo_that_is_gone_by_its_thumbnail(
    label_dir: Command, tmp_path: Path
) -> None:
    """Cases 2 and 3."""
    names = sorted(write_photos(tmp_path / "photos", 3))
    label_dir("photos", "out.parquet")
    record_source(tmp_path / "out.parquet", tmp_path / "photos")
    write_page(tmp_path, "out.parquet", "page.html")
    Image.new("RGB", (40, 33), (255, 255, 255)).save(tmp_path / "photos" / names[0])
    (tmp_path / "photos" / names[1]).unlink()
    write_page(tmp_path, "out.parquet", "page.html")
    data = data_of(tmp_path / "page.html")
    shown = thumbnails_of(tmp_path / "page.html")
    assert data["changed"] == [data["names"].index(names[0])]
    assert data["unreadable"] == [data["names"].index(names[1])]
    assert [bool(shown[name]) for name in names] == [False, True, True]
    assert "1 file has changed since the table was made" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("cell", ["../../../../victim", "", "abc", "../" * 20 + "a" * 4, "g" * 64, "A" * 64, "0" * 63])
def test_no_sha256_of_a_table_leads_out_of_the_cache(label_dir: Command, tmp_path: Path, cell: str) -> None:
    """Case 15, and a cut cell of case 31: the page is written, and so is the table of the next run."""
    write_fixed_size_photo(tmp_path / "photos" / "a.bmp", (255, 0, 0))
    label_dir("photos", "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    table["sha256"] = cell
    table.to_csv(tmp_path / "out.csv", index=False)
    write_page(tmp_path, "out.csv", "page.html")
    assert thumbnails_of(tmp_path / "page.html") == {"a.bmp": ""}
    assert list((tmp_path / "cache").rglob("*.webp")) == []
    with pytest.raises(ValueError, match="is no sha256"):
        cached_path(cell, 192)
    write_fixed_size_photo(tmp_path / "photos" / "b.bmp", (0, 255, 0))
    done = label_dir("photos", "out.csv")
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "out.csv")["label_1"]) == ["red", "green"]


def test_only_a_page_of_its_own_is_replaced(label_dir: Command, tmp_path: Path) -> None:
    write_fixed_size_photo(tmp_path / "photos" / "a.bmp", (255, 0, 0))
    label_dir("photos", "out.csv")
    foreign = "<!doctype html><title>My diary</title>"
    (tmp_path / "page.html").write_text(foreign)
    assert "is no page of label-report; move it away" in write_page(tmp_path, "out.csv", "page.html", code=2)
    assert (tmp_path / "page.html").read_text() == foreign
    (tmp_path / "page.html").unlink()
    for _ in range(2):
        write_page(tmp_path, "out.csv", "page.html")
    # Pages of earlier versions had no mark.
    page = (tmp_path / "page.html").read_text()
    (tmp_path / "page.html").write_text(re.sub(r'<meta name="generator".*\n', "", page))
    write_page(tmp_path, "out.csv", "page.html")
    assert 'name="generator"' in (tmp_path / "page.html").read_text()


def test_an_overwrite_of_equal_size_and_time_in_the_tables_own_folder_is_shown_as_changed(
    label_dir: Command, tmp_path: Path
) -> None:
    """Cases 2 and 3: a thumbnail in the cache is of the photo that was labelled, the link of the file that is there."""
    write_fixed_size_photo(tmp_path / "photos" / "a.bmp", (255, 0, 0))
    label_dir("photos", "out.parquet")
    write_page(tmp_path, "out.parquet", "page.html")
    assert data_of(tmp_path / "page.html")["changed"] == [] and thumbnails_of(tmp_path / "page.html")["a.bmp"]
    write_fixed_size_photo(tmp_path / "photos" / "a.bmp", (0, 0, 255))
    assert "1 files are no longer the photos of their rows" in write_page(tmp_path, "out.parquet", "page.html")
    assert data_of(tmp_path / "page.html")["changed"] == [0]
    assert thumbnails_of(tmp_path / "page.html") == {"a.bmp": ""}
