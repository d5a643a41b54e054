"""Impossible requests: one sentence, the right exit code, no file changed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact, metadata_of
from tests.conftest import run_label_dir, write_photos
from tests.support.unprivileged import drop_file_privileges


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 3)
    return tmp_path


@pytest.fixture(scope="module")
def labelled(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of each kind."""
    home = tmp_path_factory.mktemp("labelled")
    write_photos(home / "photos", 3)
    for out in ("out.parquet", "out.csv"):
        assert run_label_dir(tiny_model, "photos", out, cwd=home).returncode == 0
    return home


@pytest.fixture
def labelled_home(labelled: Path, tmp_path: Path) -> Path:
    """A copy of that folder with the same times, which one test may change."""
    return shutil.copytree(labelled, tmp_path / "home")


def _foreign_parquet(home: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), home / "out.parquet")


def _foreign_csv(home: Path) -> None:
    (home / "out.csv").write_text("file_name,status\na.jpg,ok\n")


def _no_table(home: Path) -> None:
    (home / "out.parquet").write_bytes(b"some text")


def _table_without_our_mark(home: Path) -> None:
    names = ["file_name", "status", "error", "width", "height", "size_bytes", "mtime", "sha256", "model", "labelled_at"]
    pq.write_table(pa.table({name: ["x"] for name in names}), home / "out.parquet")


def _nothing(_: Path) -> None:
    pass


CASES: dict[str, tuple[Callable[[Path], object], list[str], int, str]] = {
    "photos missing": (_nothing, ["nowhere", "out.parquet"], 66, "nowhere does not exist"),
    "photos a file": (lambda home: (home / "f").touch(), ["f", "out.parquet"], 66, "f is not a folder"),
    "photos unreadable": (lambda home: (home / "photos").chmod(0), ["photos", "out.parquet"], 66, "cannot be listed"),
    "out's folder missing": (_nothing, ["photos", "no/out.parquet"], 74, "the folder of no/out.parquet does not exist"),
    "out's folder read-only": (lambda home: (home / "ro").mkdir(0o555), ["photos", "ro/out.parquet"], 74, "Permission"),
    "out a folder": (lambda home: (home / "out.parquet").mkdir(), ["photos", "out.parquet"], 2, "is no file"),
    "out somebody's table": (_foreign_parquet, ["photos", "out.parquet"], 2, "not a table of label-dir; move it away"),
    "out somebody's csv": (_foreign_csv, ["photos", "out.csv"], 2, "not a table of label-dir; move it away"),
    "out no table": (_no_table, ["photos", "out.parquet"], 2, "not a table of label-dir; move it away"),
    "out alike": (_table_without_our_mark, ["photos", "out.parquet"], 2, "not a table of label-dir"),
    "out of unknown kind": (_nothing, ["photos", "out.xlsx"], 2, "must end in .parquet or .csv"),
    "batch size 0": (_nothing, ["-b", "0", "photos", "out.parquet"], 2, "-b"),
    "minus one worker": (_nothing, ["-j", "-1", "photos", "out.parquet"], 2, "-j"),
    "half a classifier": (_nothing, ["--pool", "0.5", "photos", "out.parquet"], 2, "--pool"),
    "a batch size in words": (_nothing, ["-b", "many", "photos", "out.parquet"], 2, "-b"),
    "a deadline that is no number": (_nothing, ["--timeout", "nan", "photos", "out.parquet"], 2, "--timeout"),
    "no time for a photo": (_nothing, ["--timeout", "0", "photos", "out.parquet"], 2, "--timeout"),
    "photos of no bytes": (_nothing, ["--max-bytes", "0", "photos", "out.parquet"], 2, "--max-bytes"),
    "more labels than there are": (_nothing, ["--topk", "9", "photos", "out.parquet"], 2, "has 8 labels"),
    "a third argument": (_nothing, ["photos", "out.parquet", "more"], 2, "more"),
    "no argument": (_nothing, [], 2, "PHOTOS"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_impossible_request_is_refused_in_one_sentence(case: str, home: Path, tiny_model: Artifact) -> None:
    prepare, arguments, exit_code, told = CASES[case]
    prepare(home)
    before = _contents(home)
    done = run_label_dir(tiny_model, *arguments, cwd=home, preexec_fn=drop_file_privileges)
    (home / "photos").chmod(0o755)
    assert done.returncode == exit_code
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert _contents(home) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def test_an_empty_folder_gives_an_empty_table(tiny_model: Artifact, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=tmp_path).returncode == 0
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert len(table) == 0
    assert "label_1" in table


def test_a_table_of_another_model_is_labelled_again(tiny_model: Artifact, labelled_home: Path) -> None:
    other = _renamed(tiny_model, labelled_home / "other.onnx", "other")
    done = run_label_dir(other, "photos", "out.parquet", cwd=labelled_home)
    assert done.returncode == 0, done.stderr
    assert "3 labelled" in done.stderr
    assert pd.read_parquet(labelled_home / "out.parquet")["model"].str.startswith("other@").all()


def test_a_table_with_another_number_of_labels_is_kept_without_fresh(tiny_model: Artifact, labelled_home: Path) -> None:
    before = (labelled_home / "out.csv").read_bytes()
    refused = run_label_dir(tiny_model, "--topk", "2", "photos", "out.csv", cwd=labelled_home)
    assert refused.returncode == 2
    assert "holds 3 labels a photo, not 2; use --topk 3, or --fresh" in refused.stderr
    assert (labelled_home / "out.csv").read_bytes() == before
    assert run_label_dir(tiny_model, "--topk", "2", "--fresh", "photos", "out.csv", cwd=labelled_home).returncode == 0
    assert "label_3" not in pd.read_csv(labelled_home / "out.csv")


def test_a_damaged_table_is_not_replaced(tiny_model: Artifact, labelled_home: Path) -> None:
    content = bytearray((labelled_home / "out.parquet").read_bytes())
    content[60] ^= 4
    (labelled_home / "out.parquet").write_bytes(content)
    done = run_label_dir(tiny_model, "photos", "out.parquet", cwd=labelled_home)
    assert done.returncode == 74
    assert "is damaged" in done.stderr
    assert "move it away" in done.stderr
    assert (labelled_home / "out.parquet").read_bytes() == bytes(content)


def test_the_tables_permissions_and_its_link_survive_a_run(tiny_model: Artifact, labelled_home: Path) -> None:
    out, elsewhere = labelled_home / "out.parquet", labelled_home / "elsewhere" / "table.parquet"
    elsewhere.parent.mkdir()
    out.rename(elsewhere)
    elsewhere.chmod(0o640)
    out.symlink_to("elsewhere/table.parquet")
    shutil.copy(next((labelled_home / "photos").iterdir()), labelled_home / "photos" / "z.png")
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=labelled_home).returncode == 0
    assert out.is_symlink()
    assert elsewhere.stat().st_mode & 0o777 == 0o640
    assert len(pd.read_parquet(out)) == 4


def _renamed(artifact: Artifact, path: Path, name: str) -> Artifact:
    model = onnx.load(str(artifact.path))
    renamed = dataclasses.replace(artifact, path=path, name=name)
    onnx.helper.set_model_props(model, metadata_of(renamed))
    path.write_bytes(model.SerializeToString())
    return renamed
