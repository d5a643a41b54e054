"""`label-dir --watch`: the table is kept up to date with the folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact
from tests.conftest import command_path
from tests.support.review_kit import review, reviewed
from tests.support.waiting import wait_until
from tests.support.watch_kit import digest
from tests.support.watch_process import photo

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, tiny_model: Artifact) -> Iterator[Start]:
    """Start `label-dir --watch photos OUT`; it ends with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(out: str, *options: str) -> subprocess.Popen[bytes]:
        command = [command_path("label-dir"), "--watch", "photos", out, "-m", str(tiny_model.path), "--pool", "1", "-j"]
        with (tmp_path / "log.txt").open("ab") as log:
            command += ["1", "--settle", "0.2s", "--flush", "0.2s", *options]
            processes.append(subprocess.Popen(command, cwd=tmp_path, stderr=log))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def own_model(tmp_path: Path, tiny_model: Artifact) -> Path:
    """A copy of the tiny model that a test may replace."""
    return Path(shutil.copyfile(tiny_model.path, tmp_path / "model.onnx"))


def _table(out: Path) -> dict[str, str]:
    if not out.exists():
        return {}
    with pq.ParquetFile(out) as file:
        rows = file.read(["file_name", "sha256"]).to_pydict()
    return dict(zip(rows["file_name"], rows["sha256"], strict=True))


@pytest.mark.parametrize("options", [["--rescan", "1h"], ["--poll", "0.3s"]], ids=["events", "polling"])
def test_the_table_follows_the_folder_photo_by_photo(tmp_path: Path, start: Start, options: list[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out.parquet"
    photos.mkdir()
    expected: dict[str, str] = {}

    def put(name: str, number: int) -> None:
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(photo(number))
        expected[name] = digest(photo(number))

    def follows(what: str) -> None:
        wait_until(lambda: _table(out) == expected, what)

    put("first.png", 1)
    process = start("out.parquet", *options)
    follows("the first pass")
    put("second.png", 2)
    follows("a photo that arrives")
    put("sub/third.png", 3)
    follows("a photo in a new folder")
    put("first.png", 4)
    follows("a photo that changes")
    (photos / "second.png").unlink()
    del expected["second.png"]
    follows("a photo that goes")
    (photos / "sub").rename(tmp_path / "elsewhere")
    del expected["sub/third.png"]
    if "--poll" in options:
        follows("a folder that goes")
    put("last.png", 5)
    follows("one more")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (tmp_path / "log.txt").read_text()
    assert not list(tmp_path.glob(".out.parquet*")) and not list(photos.glob(".*"))


def test_photos_of_an_unmounted_folder_keep_their_rows(tmp_path: Path, start: Start) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out.csv"
    photos.mkdir()
    (photos / "a.png").write_bytes(photo(1))
    process = start("out.csv", "--poll", "0.3s")
    wait_until(lambda: out.exists() and len(pd.read_csv(out)) == 1, "the first pass")
    photos.rename(tmp_path / "unmounted")
    photos.mkdir()
    wait_until(lambda: "paused" in (tmp_path / "log.txt").read_text(), "the pause")
    assert len(pd.read_csv(out)) == 1
    photos.rmdir()
    (tmp_path / "unmounted").rename(photos)
    (photos / "b.png").write_bytes(photo(2))
    wait_until(lambda: len(pd.read_csv(out)) == 2, "what came meanwhile")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_broken_model_at_a_reload_keeps_the_old_one_and_a_good_one_labels_again(
    tmp_path: Path, start: Start, own_model: Path
) -> None:
    """Case 24: SIGHUP with a broken model ended the watch."""
    photos, out, log = tmp_path / "photos", tmp_path / "out.parquet", tmp_path / "log.txt"
    photos.mkdir()
    good = own_model.read_bytes()
    (photos / "a.png").write_bytes(photo(2))
    process = start("out.parquet", "-m", str(own_model))
    wait_until(lambda: len(_table(out)) == 1, "the first pass")
    own_model.write_bytes(b"no model")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old one stays" in log.read_text(), "the warning")
    (photos / "b.png").write_bytes(photo(2))
    wait_until(lambda: len(_table(out)) == 2, "a row by the old model")

    (tmp_path / "new.onnx").write_bytes(good.replace(b'"red"', b'"rot"'))
    (tmp_path / "new.onnx").replace(own_model)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: _labels(out) == ["rot", "rot"], "the rows by the new model")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def _labels(out: Path) -> list[str]:
    with pq.ParquetFile(out) as file:
        return [str(label) for label in file.read(["label_1"])["label_1"].to_pylist()]


def test_dead_workers_whose_model_is_missing_are_restarted_when_it_is_back(
    tmp_path: Path, start: Start, own_model: Path
) -> None:
    """Case 23: the watch ended with a ValueError."""
    photos, out, log = tmp_path / "photos", tmp_path / "out.parquet", tmp_path / "log.txt"
    photos.mkdir()
    (photos / "a.png").write_bytes(photo(1))
    process = start("out.parquet", "-m", str(own_model))
    wait_until(lambda: len(_table(out)) == 1, "the first pass")
    own_model.rename(tmp_path / "elsewhere.onnx")
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    (photos / "b.png").write_bytes(photo(2))
    wait_until(lambda: "labelling: cannot read the model" in log.read_text(), "a restart without the model")
    assert process.poll() is None, log.read_text()
    (tmp_path / "elsewhere.onnx").rename(own_model)
    wait_until(lambda: len(_table(out)) == 2, "the row of the restarted workers")
    assert "labelling: resolved" in log.read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_fresh_watch_labels_everything_once_and_then_follows(tmp_path: Path, start: Start) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out.parquet"
    photos.mkdir()
    (photos / "a.png").write_bytes(photo(1))
    process = start("out.parquet", "--fresh")
    wait_until(lambda: set(_table(out)) == {"a.png"}, "the first pass")
    (photos / "b.png").write_bytes(photo(2))
    wait_until(lambda: "b.png" in _table(out), "the second row")
    assert set(_table(out)) == {"a.png", "b.png"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_review_is_in_the_table_without_a_change_of_the_folder(tmp_path: Path, start: Start) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out.parquet"
    photos.mkdir()
    (photos / "a.png").write_bytes(photo(1))
    start("out.parquet", "--rescan", "1h")
    wait_until(lambda: "a.png" in _table(out), "a row")
    review(out, photos / "a.png", "tiger")
    wait_until(lambda: "reviewed_label" in pq.read_schema(out).names, "the review in the table")
    assert reviewed(out) == {"a.png": "tiger"}
