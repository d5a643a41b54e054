"""Commands of a user without a name, a home or a cache of his own (the tests run as root, or these are skipped)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.conftest import command_path, write_photos

# No passwd entry has this number.
_UID = "54321"
# What may lie in root's home is still read: the interpreter and this project.
_READS_ALL = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
_AS_OTHER_USER = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", *_READS_ALL, "--"]


def as_other_user(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return a finished command of a user that this machine does not know, without HOME."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [*_AS_OTHER_USER, *map(str, command)],
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write; pytest's own are private."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root becomes another user, by setpriv")
    with tempfile.TemporaryDirectory(prefix="label-dir-other-user-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        if as_other_user(sys.executable, "-c", "import jobs.label_dir", cwd=folder).returncode:
            pytest.skip("capabilities are not given to another user here")
        yield folder


def test_a_user_without_home_and_passwd_entry_gets_one_sentence_until_a_cache_is_named(
    tiny_model: Artifact, open_folder: Path
) -> None:
    """Case 27."""
    write_photos(open_folder / "photos", 2)
    shutil.copy(tiny_model.path, open_folder / "tiny.onnx")
    commands = [
        (command_path("label-dir"), "-m", "tiny.onnx", "photos", "out.csv"),
        (command_path("label-report"), "out.csv", "page.html"),
        (command_path("label-models"), "list"),
    ]
    for command in (commands[0], commands[2]):
        refused = as_other_user(*command, cwd=open_folder)
        assert refused.returncode == 2, refused.stderr
        assert "set HOME or XDG_CACHE_HOME" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    for command in commands:
        done = as_other_user(*command, cwd=open_folder, XDG_CACHE_HOME=str(open_folder / "cache"))
        assert done.returncode == 0, done.stderr
    reported = as_other_user(*commands[1], cwd=open_folder)
    assert reported.returncode == 2, reported.stderr
    assert "Traceback" not in reported.stderr


def test_a_cache_of_another_user_without_a_certificate_for_this_cpu_is_used_and_left_as_it_is(
    default_model_cache: dict[str, str], open_folder: Path
) -> None:
    """Case 26: images are built elsewhere, and their cache is read-only."""
    write_photos(open_folder / "photos", 1)
    shutil.copytree(default_model_cache["XDG_CACHE_HOME"], open_folder / "cache")
    shutil.rmtree(open_folder / "cache" / "label-dir" / "models" / "certificates")
    for path in (open_folder / "cache").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = {path: path.stat().st_mtime_ns for path in (open_folder / "cache").rglob("*")}
    cache = str(open_folder / "cache")
    done = as_other_user(command_path("label-dir"), "photos", "out.csv", cwd=open_folder, XDG_CACHE_HOME=cache)
    assert done.returncode == 0, done.stderr
    assert "is not kept, and the next run measures again" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (open_folder / "cache").rglob("*")} == before
