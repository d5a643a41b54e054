"""Odd entries of a folder: each is labelled, gets an error row, or is skipped."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from models.artifact import Artifact
from pipeline.records import ErrorClass, ItemError
from pipeline.sources.read_file import ReadLimits, read_file
from tests.conftest import run_label_dir
from tests.support.unprivileged import drop_file_privileges

LONG_NAME = "n" * 251 + ".png"
DEEP = "/".join(["d"] * 200)

LABELLED = {
    "good.png": "red",
    "folder.jpg/inside.png": "red",
    "hard link.png": "red",
    "caf\\xe9.png": "red",
    "back\\slash.png": "red",
    "new\nline.png": "red",
    "tab\there.png": "red",
    'a "quoted" name, and a comma.png': "red",
    "=1+1.png": "red",
    "-rf.png": "red",
    "@here.png": "red",
    "ünï📷.png": "red",
    LONG_NAME: "red",
    f"{DEEP}/deep.png": "red",
}
ERRORS = {
    "empty.jpg": "empty",
    "no permission.png": "permission",
    "names but no more/a.png": "permission",
    "sparse.jpg": "too_large",
    "text.jpg": "not_an_image",
}
SKIPPED = [
    *("fifo.jpg", "socket.jpg", "device.jpg", "dangling.jpg", "itself.jpg", "loop", "to outside.png", "to folder"),
    *(".hidden.png", "upload.png.tmp", "Thumbs.db", "closed/unseen.png", "out.parquet", ".out.parquet.label-dir"),
]
FOLLOWED = {"to outside.png": "blue", "to folder/outside.png": "blue", "good.png": "red"}


@dataclass(frozen=True)
class Outcome:
    table: pd.DataFrame
    exit_code: int
    last_line: str

    def cell(self, name: str, column: str) -> str:
        return str(self.table.set_index("file_name").at[name, column])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("hostile")
    folder = home / "photos"
    (folder / "folder.jpg").mkdir(parents=True)
    _write_links(home, folder)
    _write_special_files(folder)
    _write_names(folder)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("<html>no such photo</html>")
    with (folder / "sparse.jpg").open("wb") as sparse:
        sparse.truncate(1 << 40)
    for name, mode in (("closed", 0o000), ("names but no more", 0o444)):
        (folder / name).mkdir()
        shutil.copy(folder / "good.png", folder / name / ("unseen.png" if mode == 0 else "a.png"))
        (folder / name).chmod(mode)
    shutil.copy(folder / "good.png", folder / "no permission.png")
    (folder / "no permission.png").chmod(0)
    yield folder
    for name in ("closed", "names but no more"):
        (folder / name).chmod(0o755)


def _write_links(home: Path, folder: Path) -> None:
    Image.new("RGB", (40, 40), (255, 0, 0)).save(folder / "good.png")
    (home / "outside").mkdir()
    Image.new("RGB", (40, 40), (0, 0, 255)).save(home / "outside" / "outside.png")
    (folder / "hard link.png").hardlink_to(folder / "good.png")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    (folder / "loop").symlink_to(".")
    (folder / "to outside.png").symlink_to("../outside/outside.png")
    (folder / "to folder").symlink_to("../outside")


def _write_special_files(folder: Path) -> None:
    os.mkfifo(folder / "fifo.jpg")
    here = Path.cwd()
    os.chdir(folder)
    try:
        # A socket's path must be short.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.jpg")
    finally:
        os.chdir(here)
    if os.geteuid() == 0:
        os.mknod(folder / "device.jpg", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def _write_names(folder: Path) -> None:
    os.makedirs(folder / DEEP)
    raw_names = [os.fsencode(name) for name in LABELLED if not name.startswith("caf")] + [b"caf\xe9.png"]
    for raw in [*raw_names, b"folder.jpg/inside.png", b".hidden.png", b"upload.png.tmp", b"Thumbs.db"]:
        path = folder / os.fsdecode(raw)
        if not path.exists():
            shutil.copy(folder / "good.png", path)


def _run(tiny_model: Artifact, photos: Path, *options: str) -> Outcome:
    out = photos / "out.parquet"
    done = run_label_dir(tiny_model, *options, photos, out, preexec_fn=drop_file_privileges)
    assert out.exists(), done.stderr
    return Outcome(pd.read_parquet(out), done.returncode, done.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def outcome(tiny_model: Artifact, photos: Path) -> Outcome:
    return _run(tiny_model, photos)


@pytest.fixture(scope="module")
def followed(tiny_model: Artifact, photos: Path, outcome: Outcome) -> Outcome:
    return _run(tiny_model, photos, "--follow-links")


@pytest.mark.parametrize("name", LABELLED, ids=lambda name: str(name)[:40].encode("unicode_escape").decode())
def test_is_labelled(outcome: Outcome, name: str) -> None:
    assert outcome.cell(name, "label_1") == LABELLED[name]


@pytest.mark.parametrize("name", ERRORS)
def test_gets_an_error_row(outcome: Outcome, name: str) -> None:
    assert outcome.cell(name, "status") == "error"
    assert outcome.cell(name, "error").startswith(f"{ERRORS[name]}: ")


@pytest.mark.parametrize("name", SKIPPED)
def test_is_skipped(outcome: Outcome, name: str) -> None:
    names = outcome.table["file_name"]
    assert not ((names == name) | names.str.startswith(f"{name}/")).any()


def test_there_is_one_row_a_file_and_no_other_row(outcome: Outcome) -> None:
    assert sorted(outcome.table["file_name"]) == sorted([*LABELLED, *ERRORS])


def test_rows_are_sorted_by_name(outcome: Outcome) -> None:
    assert list(outcome.table["file_name"]) == sorted(outcome.table["file_name"])


def test_skipped_entries_are_counted_in_the_last_line(outcome: Outcome) -> None:
    special_files = 3 if os.geteuid() == 0 else 2
    skipped = special_files + len([".hidden.png", "upload.png.tmp", "Thumbs.db", ".out.parquet.label-dir"])
    assert f"{skipped} skipped, 5 links skipped (--follow-links), 1 folders could not be listed" in outcome.last_line


def test_failures_show_in_the_last_line_by_class_and_in_the_exit_code(outcome: Outcome) -> None:
    assert "5 failed (2 permission, " in outcome.last_line
    assert outcome.exit_code == 3


@pytest.mark.parametrize("name", FOLLOWED)
def test_with_follow_links_is_labelled(followed: Outcome, name: str) -> None:
    assert followed.cell(name, "label_1") == FOLLOWED[name]


def test_followed_loops_are_cut(followed: Outcome) -> None:
    assert not followed.table["file_name"].str.startswith("loop").any()
    assert sorted(followed.table["file_name"]) == sorted({*LABELLED, *ERRORS, *FOLLOWED})


def test_a_folder_that_closes_keeps_its_rows_and_a_file_that_opens_gets_its_label(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png", "z.png"):
        Image.new("RGB", (40, 40), (0, 255, 0)).save(photos / name)
    (photos / "a.png").chmod(0)
    before = _run(tiny_model, photos)
    assert before.cell("a.png", "error").startswith("permission")
    (photos / "a.png").chmod(0o600)
    (photos / "sub").chmod(0)
    (photos / "z.png").unlink()
    after = _run(tiny_model, photos)
    (photos / "sub").chmod(0o755)
    assert {name: after.cell(name, "label_1") for name in after.table["file_name"]} == dict.fromkeys(
        ("a.png", "sub/b.png"), "green"
    )
    assert after.exit_code == 3


def test_a_file_that_vanished_after_the_walk_is_an_error(tmp_path: Path) -> None:
    found = read_file(str(tmp_path / "gone.jpg"), ReadLimits())
    assert isinstance(found, ItemError)
    assert found.error_class is ErrorClass.VANISHED


def test_a_file_that_keeps_changing_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.jpg"
    path.write_bytes(b"begin")
    _grow_while_read(path, monkeypatch, times=99)
    found = read_file(str(path), ReadLimits())
    assert isinstance(found, ItemError)
    assert found.error_class is ErrorClass.CHANGED


def test_a_file_that_changed_once_while_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.jpg"
    path.write_bytes(b"begin")
    _grow_while_read(path, monkeypatch, times=1)
    found = read_file(str(path), ReadLimits())
    assert not isinstance(found, ItemError)
    assert found.content == b"begin and more"


def _grow_while_read(path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    read = os.pread
    left = [times]

    def pread(descriptor: int, size_bytes: int, offset: int) -> bytes:
        content = read(descriptor, size_bytes, offset)
        if left[0] and not offset:
            left[0] -= 1
            with path.open("ab") as stream:
                stream.write(b" and more")
        return content

    monkeypatch.setattr(os, "pread", pread)


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_an_entry_that_replaced_a_photo_after_the_walk_is_never_read_as_a_photo(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.jpg"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/hostname")
    found = read_file(str(path), ReadLimits())
    assert isinstance(found, ItemError)
    assert found.error_class is ErrorClass.IO
