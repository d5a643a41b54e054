"""The worst finds of the trial, once more by real commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact
from models.errors import ExitCode
from pipeline.tables.reader import read_rows
from tests.conftest import Command, command_path, write_photos
from tests.models.test_odd_models import odd_model


def _run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [command_path(str(arguments[0])), *map(str, arguments[1:])]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_label_of_half_a_surrogate_pair_is_one_sentence(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    labels = '["\\ud800", "b", "c", "d", "e", "f", "g", "h"]'
    done = label_dir("-m", odd_model(tmp_path, {"labels": labels}), "photos", "out.csv")
    assert done.returncode == ExitCode.INPUT_MISSING
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_a_table_in_another_order_with_an_impossible_name_is_continued_and_shown(
    label_dir: Command, tmp_path: Path
) -> None:
    names = sorted(write_photos(tmp_path / "photos", 5))
    assert label_dir("photos", "out.parquet").returncode == 0
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    odd = [*reversed(rows), {**rows[0], "file_name": "x" * 300 + ".png"}]
    schema = pq.read_schema(tmp_path / "out.parquet")
    pq.write_table(pa.Table.from_pylist(odd, schema), tmp_path / "out.parquet")
    assert _run(tmp_path, "label-show", "out.parquet").returncode == 0
    assert _run(tmp_path, "label-report", "out.parquet", "page.html").returncode == 0
    assert "5 unchanged" in label_dir("photos", "out.parquet").stderr
    assert read_rows(tmp_path / "out.parquet").column("file_name").to_pylist() == names


@pytest.mark.parametrize("part_format", ["parquet", "csv"])
def test_a_photo_that_came_back_after_a_backup_is_not_deleted_without_a_row(
    tiny_model: Artifact, tmp_path: Path, part_format: str
) -> None:
    inbox, labels, kept = tmp_path / "inbox", tmp_path / "labels", tmp_path / "kept"
    options = ["-m", tiny_model.path, "--once", "--settle", "0s", "--done", "delete", "--format", part_format]
    first, second = sorted(write_photos(kept, 2))
    for photo in (first, second):
        inbox.mkdir(exist_ok=True)
        shutil.copy(kept / photo, inbox)
        assert _run(tmp_path, "watch-folder", *options, inbox, labels).returncode == 0
        assert not (inbox / photo).exists()
        if photo == first:
            shutil.copytree(labels, tmp_path / "backup")
    shutil.rmtree(labels)
    (tmp_path / "backup").rename(labels)
    shutil.copy(kept / second, inbox)
    assert _run(tmp_path, "watch-folder", *options, inbox, labels).returncode == 0
    assert read_rows(labels).column("file_name").to_pylist() == [first, second]
