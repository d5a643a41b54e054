"""Commands do their work whatever became of stdout and stderr (cases 20, 25 and 34)."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from models.artifact import Artifact
from tests.conftest import command_path, write_photos

# Each prints on stdout. {model} is replaced by the tiny model's file.
PRINTING = (
    "label-show out.parquet",
    "label-show --help",
    "label-dir -m {model} --show-plan photos out.parquet",
    "label-dir --help",
    "label-dir --version",
    "label-models list",
    "label-report --help",
    "label-job init",
    "label-job check nightly.toml",
    "label-job install nightly.toml --cron --at 02:30",
    "watch-folder --print-unit",
)
# Each writes files, and prints nothing on stdout.
WORKING = (
    "label-dir -m {model} photos new.parquet",
    "label-report out.parquet page.html",
    "watch-folder -m {model} --once inbox labels",
    "label-job run nightly.toml",
)
WRONG = (
    "label-dir --nonsense photos out.parquet",
    "label-show missing.parquet",
    "label-models build nonsense",
    "label-job run missing.toml",
    "watch-folder missing labels",
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, tiny_model: Artifact) -> Path:
    """A folder with photos, their table, an inbox and a job file."""
    home = tmp_path_factory.mktemp("streams")
    write_photos(home / "photos", 2)
    write_photos(home / "inbox", 2)
    job = f'[[task]]\nname = "one"\nphotos = "photos"\noutput = "job.parquet"\nmodel = "{tiny_model.path}"\n'
    (home / "nightly.toml").write_text(job)
    assert run(home, tiny_model, "label-dir -m {model} photos out.parquet").returncode == 0
    return home


def run(folder: Path, model: Artifact, command: str, redirections: str = "") -> subprocess.CompletedProcess[str]:
    """Return `command`, run in `folder` by a shell with `redirections`."""
    name, arguments = command.replace("{model}", shlex.quote(str(model.path))).split(maxsplit=1)
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {shlex.quote(command_path(name))} {arguments} {redirections}"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("command", WORKING)
def test_work_is_done_without_stdout_and_stderr(
    labelled: Path, tmp_path: Path, tiny_model: Artifact, command: str, redirections: str
) -> None:
    home = shutil.copytree(labelled, tmp_path / "home")
    done = run(home, tiny_model, command, redirections)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    before = pd.read_parquet(home / "out.parquet")
    for table in (home / "new.parquet", home / "job.parquet"):
        if table.exists():
            assert list(pd.read_parquet(table)["label_1"]) == list(before["label_1"])


@pytest.mark.parametrize("command", PRINTING)
def test_what_was_asked_for_is_printed_without_stderr_or_else_is_an_error(
    labelled: Path, tiny_model: Artifact, command: str
) -> None:
    usual = run(labelled, tiny_model, command)
    assert usual.returncode == 0, usual.stderr
    assert usual.stdout
    assert run(labelled, tiny_model, command, "2>&-").stdout == usual.stdout
    for redirection in (">/dev/full", ">&-"):
        done = run(labelled, tiny_model, command, redirection)
        assert done.returncode == 74, done.stderr
        assert done.stderr.splitlines()[-1].startswith(f"{command.split()[0]}: stdout cannot be written: ")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", WRONG)
def test_a_mistake_has_its_exit_code_without_stderr(labelled: Path, tiny_model: Artifact, command: str) -> None:
    usual = run(labelled, tiny_model, command)
    assert usual.returncode in (2, 66), usual.stderr
    for redirections in (">&- 2>&-", "2>/dev/full"):
        assert run(labelled, tiny_model, command, redirections).returncode == usual.returncode


@pytest.mark.parametrize(
    "command",
    [
        "label-show '{name}'",
        "label-dir -m {model} '{name}' out.csv",
        "label-dir a b '{name}'",
        "label-job run '{name}'",
    ],
)
def test_an_argument_does_not_steer_the_terminal(tmp_path: Path, tiny_model: Artifact, command: str) -> None:
    """Case 20."""
    done = run(tmp_path, tiny_model, command.replace("{name}", "\x1b]0;title\x07.toml"))
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr
    assert "title" in done.stderr
