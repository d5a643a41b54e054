"""What `label-dir PHOTOS OUT` promises, tried through the real command with real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact
from pipeline.tables.schema import FORMAT_KEY, FORMAT_VERSION, schema
from tests.conftest import Command, run_label_dir, write_photos


def table_of(path: Path) -> pd.DataFrame:
    """Read a table without the one column that differs from run to run."""
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    return frame.drop(columns="labelled_at")


def labels_of(path: Path) -> dict[str, str]:
    """Return the first label of each file."""
    frame = table_of(path)
    return dict(zip(frame["file_name"], frame["label_1"], strict=True))


@dataclass(frozen=True)
class FirstRun:
    """A folder of whole and broken photos, the label of each whole one, and the output of the first run."""

    home: Path
    expected: dict[str, str]
    done: subprocess.CompletedProcess[str]

    @property
    def table(self) -> Path:
        return self.home / "out.parquet"


BROKEN = {"00001-cut.png": "truncated", "00002-empty.jpg": "empty", "00003-text.jpg": "not_an_image"}


@pytest.fixture(scope="module")
def first(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """One run with the default plan, whose table many tests read."""
    home = tmp_path_factory.mktemp("first")
    photos = home / "photos"
    expected = write_photos(photos, 70)
    expected |= {f"a/b/{name}": label for name, label in write_photos(photos / "a/b", 9, ".jpg").items()}
    Image.new("RGB", (40, 40)).save(photos / "a.png")
    whole = (photos / "00001-white.png").read_bytes()
    (photos / "00001-cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "00002-empty.jpg").write_bytes(b"")
    (photos / "00003-text.jpg").write_text("<html>not found</html>")
    (photos / "notes.txt").write_text("not an image")
    return FirstRun(home, expected | {"a.png": "black"}, run_label_dir(tiny_model, "photos", "out.parquet", cwd=home))


def test_every_photo_in_every_folder_gets_its_own_label(first: FirstRun) -> None:
    frame = table_of(first.table)
    fine = frame[frame["status"] == "ok"]
    assert dict(zip(fine["file_name"], fine["label_1"], strict=True)) == first.expected


def test_a_broken_photo_is_an_error_row_and_its_neighbours_keep_labels(first: FirstRun) -> None:
    frame = table_of(first.table)
    errors = frame[frame["status"] == "error"]
    assert dict(zip(errors["file_name"], errors["error"].str.split(":").str[0], strict=True)) == BROKEN
    assert len(frame) == len(first.expected) + len(BROKEN)
    assert first.done.returncode == 3


def test_stdout_is_empty_and_stderr_has_one_line(first: FirstRun) -> None:
    assert first.done.stdout == ""
    assert len(first.done.stderr.splitlines()) == 1
    assert "80 labelled, 3 failed (" in first.done.stderr
    assert "1 skipped in" in first.done.stderr
    assert "images/s" in first.done.stderr
    assert "out.parquet" in first.done.stderr


def test_nothing_is_left_beside_the_table(first: FirstRun) -> None:
    assert sorted(os.listdir(first.home)) == ["out.parquet", "photos"]


def test_the_schema_is_a_constant_and_rows_are_sorted_by_file_name(first: FirstRun) -> None:
    table = pq.read_table(first.table)
    assert table.schema.equals(schema(3))
    assert (table.schema.metadata or {})[FORMAT_KEY] == FORMAT_VERSION
    names = [str(name) for name in table.column("file_name").to_pylist()]
    assert names == sorted(names)
    assert names.index("a.png") < names.index("a/b/00000-black.jpg")


def test_size_time_and_model_are_those_of_the_file(first: FirstRun) -> None:
    row = pq.read_table(first.table).to_pylist()[0]
    file = first.home / "photos" / row["file_name"]
    assert (row["width"], row["height"], row["size_bytes"]) == (40, 33, file.stat().st_size)
    assert int(row["mtime"].timestamp() * 1e6) == pytest.approx(file.stat().st_mtime_ns // 1000, abs=1)
    assert row["model"].startswith("tiny@")


def test_duckdb_reads_the_table(first: FirstRun) -> None:
    query = f"select count(*) from '{first.table}' where status = 'ok' and label_1 = 'red'"
    reds = sum(label == "red" for label in first.expected.values())
    assert duckdb.connect().execute(query).fetchall() == [(reds,)]


@pytest.mark.parametrize(
    "options", [["-b", 1, "-j", 1, "--pool", 1], ["-b", 7, "-j", 3, "--pool", 2], ["--pool", 1, "--threads", 2]]
)
def test_the_table_is_the_same_for_every_plan(
    first: FirstRun, label_dir: Command, tmp_path: Path, options: list[object]
) -> None:
    assert label_dir(*options, first.home / "photos", "other.parquet").returncode == 3
    pd.testing.assert_frame_equal(table_of(first.table), table_of(tmp_path / "other.parquet"))


def test_csv_and_parquet_hold_the_same_and_quiet_prints_nothing(
    first: FirstRun, label_dir: Command, tmp_path: Path
) -> None:
    assert label_dir("-q", first.home / "photos", "out.csv").stderr == ""
    csv, parquet = table_of(tmp_path / "out.csv"), table_of(first.table)
    assert list(csv.columns) == list(parquet.columns)
    for column in ("file_name", "status", "error", "label_1", "label_3", "size_bytes", "sha256", "model"):
        assert csv[column].fillna("").tolist() == parquet[column].fillna("").tolist()
    assert csv["prob_2"].to_numpy() == pytest.approx(parquet["prob_2"].to_numpy(), rel=1e-6, nan_ok=True)


def test_a_second_run_opens_only_what_is_new_or_changed(first: FirstRun, label_dir: Command, tmp_path: Path) -> None:
    home = shutil.copytree(first.home, tmp_path / "home")
    before = pd.read_parquet(home / "out.parquet").set_index("file_name")["labelled_at"]
    Image.new("RGB", (50, 50), (255, 0, 0)).save(home / "photos/00000-black.png")
    Image.new("RGB", (50, 50), (0, 0, 255)).save(home / "photos/new.png")
    (home / "photos/00001-white.png").unlink()
    done = label_dir("photos", "out.parquet", cwd=home)
    assert done.stderr.startswith("2 labelled, 81 unchanged")
    assert "0 failed, 1 skipped, 1 gone" in done.stderr
    labels = {name: label for name, label in labels_of(home / "out.parquet").items() if name not in BROKEN}
    expected = {name: label for name, label in first.expected.items() if name != "00001-white.png"}
    assert labels == expected | {"00000-black.png": "red", "new.png": "blue"}
    after = pd.read_parquet(home / "out.parquet").set_index("file_name")["labelled_at"]
    same = [name for name in after.index if name in before.index and after[name] == before[name]]
    assert len(same) == 81


def test_the_command_works_beside_folders_named_like_its_packages(label_dir: Command, tmp_path: Path) -> None:
    expected = write_photos(tmp_path / "photos", 10)
    for name in ("models", "pipeline", "jobs", "torch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    for name in ("random.py", "tempfile.py", "queue.py", "selectors.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    done = label_dir("photos", "out.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert labels_of(tmp_path / "out.parquet") == expected


def test_include_and_exclude_choose_files(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos/keep", 4)
    write_photos(tmp_path / "photos/thumbs", 4)
    (tmp_path / "photos/keep/00000-black.png").rename(tmp_path / "photos/keep/raw.dat")
    label_dir("--exclude", "thumbs", "photos", "excluded.parquet")
    assert all(name.startswith("keep/") for name in labels_of(tmp_path / "excluded.parquet"))
    label_dir("--include", "*.dat", "photos", "included.parquet")
    assert labels_of(tmp_path / "included.parquet") == {"keep/raw.dat": "black"}


def test_options_come_from_the_environment_too_and_all_probabilities_add_up(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    label_dir("photos", "out.parquet", env={"LABEL_DIR_TOPK": "8"})
    row = pq.read_table(tmp_path / "out.parquet").to_pylist()[0]
    probabilities = [row[f"prob_{rank}"] for rank in range(1, 9)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_help_has_examples(label_dir: Command) -> None:
    done = label_dir("-h")
    assert done.returncode == 0
    assert "label-dir photos/ labels.parquet" in done.stdout
    assert "Exit codes" in done.stdout
