from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.conftest import command_path, run_label_dir, write_photos
from tests.support.review_kit import review


def _show(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("label-show"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def table(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("show")
    write_photos(folder / "photos", 16)
    (folder / "photos" / "empty\n\x1b[31m.jpg").touch()
    (folder / "photos" / "text.png").write_text("hello")
    assert run_label_dir(tiny_model, "photos", "out.csv", cwd=folder).returncode == 3
    return folder / "out.csv"


def test_matching_photos_errors_and_counts_are_printed_in_columns(table: Path) -> None:
    photos = _show(table, "--label", "RED", cwd=table.parent).stdout.splitlines()
    assert [line.split()[0] for line in photos] == ["FILE", "00002-red.png", "00010-red.png"]
    errors = _show(table, "--errors", cwd=table.parent)
    assert [line.split(": ")[0].split() for line in errors.stdout.splitlines()] == [
        ["FILE", "ERROR"],
        ["empty\\n\\x1b[31m.jpg", "empty"],
        ["text.png", "not_an_image"],
    ]
    counts = _show(table, "--count", cwd=table.parent).stdout.splitlines()
    assert counts[0].split() == ["PHOTOS", "LABEL"]
    assert [line.split()[0] for line in counts[1:]] == ["2"] * 8
    by_class = _show(table, "--count", "--errors", cwd=table.parent).stdout.splitlines()
    assert [line.split() for line in by_class[1:]] == [["1", "empty"], ["1", "not_an_image"]]
    assert _show(table, "--min-prob", "1.0", "--max-prob", "0.1", cwd=table.parent).stdout.count("\n") == 1


def test_the_number_of_rows_beyond_the_limit_is_printed(table: Path) -> None:
    some = _show(table, "-n", "3", cwd=table.parent)
    assert (some.stdout.count("\n"), some.stderr) == (4, "... and 13 more (--limit 0 shows all)\n")
    assert _show(table, "--limit", "0", cwd=table.parent).stdout.count("\n") == 17


@pytest.mark.parametrize(("name", "code"), [("missing.parquet", 66), ("foreign.csv", 2), ("folder", 66)])
def test_a_path_without_a_table_is_refused_with_its_exit_code(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    done = _show(name, cwd=tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_what_persons_said_is_shown_at_once_beside_the_labels_and_counted(tiny_model: Artifact, tmp_path: Path) -> None:
    first, second, *_ = sorted(write_photos(tmp_path / "photos", 4))
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=tmp_path).returncode == 0
    for name in (first, second):
        review(tmp_path / "out.parquet", tmp_path / "photos" / name, "tiger")
    shown = _show("out.parquet", "--reviewed", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[:2] for line in shown] == [["FILE", "REVIEWED"], [first, "tiger"], [second, "tiger"]]
    counted = _show("out.parquet", "--reviewed", "--count", cwd=tmp_path).stdout.splitlines()
    assert [line.split() for line in counted] == [["PHOTOS", "REVIEWED"], ["2", "tiger"]]
    refused = _show("out.parquet", "--reviewed", "--errors", cwd=tmp_path)
    assert refused.returncode == 2
