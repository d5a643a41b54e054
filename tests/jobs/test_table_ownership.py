"""A table is of one folder: of another folder, or of an empty one, nothing in the table is replaced unasked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact
from pipeline.errors import ExitCode
from tests.conftest import Command, run_label_dir, write_photos

EACH_KIND = pytest.mark.parametrize("out", ["out.parquet", "out.csv"])


def _names(table: Path) -> list[str]:
    frame = pd.read_csv(table) if table.suffix == ".csv" else pd.read_parquet(table)
    return list(frame["file_name"])


@EACH_KIND
def test_the_table_of_another_folder_is_refused_until_a_person_decides(
    label_dir: Command, tmp_path: Path, out: str
) -> None:
    """The friction of issue N: `label-dir 2023/ l.csv` and then `label-dir 2024/ l.csv` replaced the rows of 2023."""
    write_photos(tmp_path / "2023", 6)
    write_photos(tmp_path / "2024", 4)
    assert label_dir("2023", out).returncode == 0
    before = (tmp_path / out).read_bytes()
    refused = label_dir("2024", out)
    assert refused.returncode == ExitCode.USAGE
    assert f"{out} holds the labels of {tmp_path}/2023, not of {tmp_path}/2024" in refused.stderr
    assert "--fresh" in refused.stderr
    assert "--adopt" in refused.stderr
    assert (tmp_path / out).read_bytes() == before
    assert label_dir("--fresh", "2024", out).returncode == 0
    assert len(_names(tmp_path / out)) == 4
    assert label_dir("2023", out).returncode == ExitCode.USAGE


@EACH_KIND
def test_a_renamed_folder_is_adopted_without_opening_a_photo(label_dir: Command, tmp_path: Path, out: str) -> None:
    write_photos(tmp_path / "photos", 6)
    assert label_dir("photos", out).returncode == 0
    (tmp_path / "photos").rename(tmp_path / "renamed")
    assert label_dir("renamed", out).returncode == ExitCode.USAGE
    assert label_dir("--adopt", "renamed", out).stderr.startswith("0 labelled, 6 unchanged")
    assert label_dir("renamed", out).stderr.startswith("0 labelled, 6 unchanged")


@EACH_KIND
def test_photos_and_table_that_move_together_need_no_word(tiny_model: Artifact, tmp_path: Path, out: str) -> None:
    home = tmp_path / "home"
    write_photos(home / "photos", 6)
    assert run_label_dir(tiny_model, "photos", out, cwd=home).returncode == 0
    moved = home.rename(tmp_path / "elsewhere")
    assert run_label_dir(tiny_model, "photos", out, cwd=moved).stderr.startswith("0 labelled, 6 unchanged")


@EACH_KIND
def test_an_empty_folder_leaves_the_table_as_it_was(label_dir: Command, tmp_path: Path, out: str) -> None:
    """Case 10: a bare mount point emptied the table with exit code 0."""
    write_photos(tmp_path / "photos", 6)
    assert label_dir("photos", out).returncode == 0
    before = (tmp_path / out).read_bytes()
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    for arguments in ((), ("--fresh",)):
        stopped = label_dir(*arguments, "photos", out)
        assert stopped.returncode == ExitCode.PHOTOS_GONE
        assert f"6 of the 6 photos in {out} are not in photos any more" in stopped.stderr
        assert (tmp_path / out).read_bytes() == before
    assert label_dir("--max-gone", "100%", "photos", out).returncode == 0
    assert _names(tmp_path / out) == []


def test_a_mistyped_rule_leaves_the_table_as_it_was(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 6)
    assert label_dir("photos", "out.csv").returncode == 0
    stopped = label_dir("--include", "*.jgp", "photos", "out.csv")
    assert stopped.returncode == ExitCode.PHOTOS_GONE
    assert len(_names(tmp_path / "out.csv")) == 6


def test_more_than_half_of_many_rows_go_only_when_told(label_dir: Command, tmp_path: Path) -> None:
    names = sorted(write_photos(tmp_path / "photos", 30))
    assert label_dir("photos", "out.parquet").returncode == 0
    for name in names[:16]:
        (tmp_path / "photos" / name).unlink()
    assert label_dir("photos", "out.parquet").returncode == ExitCode.PHOTOS_GONE
    assert label_dir("--max-gone", "16", "photos", "out.parquet").returncode == 0
    assert _names(tmp_path / "out.parquet") == names[16:]


def test_renamed_photos_are_not_gone(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 30)
    assert label_dir("photos", "out.parquet").returncode == 0
    (tmp_path / "photos").rename(tmp_path / "sub")
    (tmp_path / "photos").mkdir()
    (tmp_path / "sub").rename(tmp_path / "photos" / "sub")
    done = label_dir("photos", "out.parquet")
    assert done.returncode == 0
    assert "30 known by their bytes" in done.stderr


def _saved_by_pandas(table: Path) -> None:
    frame = pd.read_parquet(table) if table.suffix == ".parquet" else pd.read_csv(table)
    frame = frame.assign(shelf="A 1").iloc[::-1]
    if table.suffix == ".parquet":
        frame.to_parquet(table)
    else:
        frame.to_csv(table, index=False)


def _saved_by_a_spreadsheet(table: Path) -> None:
    frame = pd.read_csv(table).assign(shelf="A 1")
    frame.iloc[::-1].to_csv(table, index=False, sep=";", decimal=",", encoding="utf-8-sig")


def _saved_by_duckdb(table: Path) -> None:
    kind = "(format parquet)" if table.suffix == ".parquet" else "(header)"
    rows = f"select 'A 1' as shelf, * from '{table}' order by file_name desc"
    target = table.with_name(f"again{table.suffix}")
    duckdb.connect().execute(f"copy ({rows}) to '{target}' {kind}")
    target.replace(table)


@pytest.mark.parametrize(
    ("out", "save"),
    [
        ("out.parquet", _saved_by_pandas),
        ("out.csv", _saved_by_pandas),
        ("out.csv", _saved_by_a_spreadsheet),
        ("out.parquet", _saved_by_duckdb),
        ("out.csv", _saved_by_duckdb),
    ],
)
def test_a_table_that_another_program_saved_is_continued_with_its_extra_columns(
    label_dir: Command, tmp_path: Path, out: str, save: object
) -> None:
    names = sorted(write_photos(tmp_path / "photos", 6))
    (tmp_path / "photos" / "broken.png").write_bytes(b"")
    assert label_dir("photos", out).returncode == ExitCode.SOME_FAILED
    assert callable(save)
    save(tmp_path / out)
    Image.new("RGB", (50, 50), (255, 0, 0)).save(tmp_path / "photos" / "zz.png")
    done = label_dir("photos", out)
    assert done.stderr.startswith("1 labelled, 7 unchanged"), done.stderr
    frame = pd.read_csv(tmp_path / out) if out.endswith(".csv") else pd.read_parquet(tmp_path / out)
    assert list(frame["file_name"]) == [*names, "broken.png", "zz.png"]
    assert list(frame["shelf"].fillna("")) == ["A 1"] * 7 + [""]
    assert label_dir("photos", out).stderr.startswith("0 labelled, 8 unchanged")


def test_a_table_that_lacks_a_column_is_refused_by_the_name_of_the_column(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    assert label_dir("photos", "out.csv").returncode == 0
    pd.read_csv(tmp_path / "out.csv").drop(columns="sha256").to_csv(tmp_path / "out.csv", index=False)
    refused = label_dir("photos", "out.csv")
    assert refused.returncode == ExitCode.USAGE
    assert "out.csv lacks the column sha256" in refused.stderr


def test_wrong_arguments_are_found_before_a_model_is_built(tmp_path: Path) -> None:
    """Case 38: a wrong argument was found only after the model was built, which takes 20 s."""
    import os
    import subprocess

    from tests.conftest import command_path

    write_photos(tmp_path / "photos", 1)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for arguments in (("photos", "out.txt"), ("missing", "out.csv"), ("photos", "missing/out.csv")):
        done = subprocess.run(
            [command_path("label-dir"), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode in (ExitCode.USAGE, ExitCode.INPUT_MISSING, ExitCode.OUTPUT_UNWRITABLE)
        assert "building" not in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_circle_of_links_is_one_sentence(label_dir: Command, tmp_path: Path) -> None:
    """Case 31."""
    write_photos(tmp_path / "photos", 1)
    (tmp_path / "a.csv").symlink_to("b.csv")
    (tmp_path / "b.csv").symlink_to("a.csv")
    done = label_dir("photos", "a.csv")
    assert done.returncode == ExitCode.OUTPUT_UNWRITABLE
    assert "is a link that leads to itself" in done.stderr


def test_a_time_after_the_year_9999_is_shown_and_read_back(label_dir: Command, tmp_path: Path) -> None:
    """Case 33: such a time crashed label-show, and a CSV with one could never be read again."""
    import os

    (name,) = write_photos(tmp_path / "photos", 1)
    os.utime(tmp_path / "photos" / name, (300_000_000_000, 300_000_000_000))
    for out in ("out.csv", "out.parquet"):
        assert label_dir("photos", out).returncode == 0
        assert label_dir("photos", out).stderr.startswith("0 labelled, 1 unchanged")


EXCHANGED = """
import sys
from pathlib import Path
from models.artifact import read_artifact
from pipeline.system.cpus import this_machine
from pipeline.planning.plan import Settings, plan_for
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest

def main():
    photos, out, model, victim = map(Path, sys.argv[1:])
    state = out.with_name(f".{out.name}.label-dir")

    def exchange():
        state.rename(state.with_name("moved"))
        state.symlink_to(victim)

    plan = plan_for(this_machine(), Settings(batch_size=4))
    print(run(RunRequest(photos, out, read_artifact(model), plan), Hooks(on_walked=exchange)).labelled)

if __name__ == "__main__":
    main()
"""


def test_a_state_folder_exchanged_for_a_link_during_a_run_makes_the_run_write_and_remove_nothing_there(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    """Case 17: parts are written and removed through the folder that was checked, whatever has its path by then."""
    write_photos(tmp_path / "photos", 4)
    victim = tmp_path / "victim"
    victim.mkdir()
    names = ["part-1.parquet", ".x.tmp", "anew", "lock", "label-dir.json"]
    for name in names:
        (victim / name).write_bytes(b"precious")
    (tmp_path / "script.py").write_text(EXCHANGED)
    arguments = [str(tmp_path / "photos"), str(tmp_path / "out.parquet"), str(tiny_model.path), str(victim)]
    command = [sys.executable, "-P", str(tmp_path / "script.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "4", done.stderr
    assert {path.name: path.read_bytes() for path in victim.iterdir()} == dict.fromkeys(names, b"precious")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 4
