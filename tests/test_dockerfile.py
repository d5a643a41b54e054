"""The Dockerfile: its stages are sound, its image holds no torch, and its commands work in fresh environments."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import dockerfile
import pytest

from tests.conftest import write_photos
from tests.support.dockerfile_stages import run_stages

ROOT = Path(__file__).parents[1]
COMMANDS = dockerfile.parse_file(str(ROOT / "Dockerfile"))


def test_everything_that_the_image_copies_from_the_clone_exists_and_is_not_ignored() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for command in COMMANDS
        if command.cmd.upper() == "COPY" and not command.flags
        for source in command.value[:-1]
    }
    assert copied == admitted
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_is_built_with_the_tested_torch_and_ships_without() -> None:
    tested = re.search(r"^TORCH \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tested is not None
    starts = [index for index, command in enumerate(COMMANDS) if command.cmd.upper() == "FROM"]
    assert len(starts) == 2
    build, image = (
        " ".join(word for command in part for word in command.value)
        for part in (COMMANDS[: starts[1]], COMMANDS[starts[1] :])
    )
    assert tested.group(1) in build
    assert "torch" not in image
    assert "--no-deps" in image


def test_the_runners_requirements_are_the_tested_versions_and_complete() -> None:
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    needed = {
        line
        for line in (ROOT / "requirements-runner.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert needed <= pinned
    plain = (ROOT / "setup.cfg").read_text().partition("install_requires =")[2].partition("[")[0].split()
    extra = (ROOT / "setup.cfg").read_text().partition("\nbuild =")[2].partition("lite1 =")[0].split()
    names = {re.split(r"[<>=]", line)[0].lower() for line in needed}
    assert {re.split(r"[<>=]", line)[0].lower() for line in set(plain) - set(extra)} <= names


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_its_commands_work_in_fresh_environments(tmp_path: Path) -> None:
    """Installs torch into an environment of its own: minutes, and gigabytes from the package index."""
    _, image = run_stages(ROOT, tmp_path / "stages")
    assert not list(image.root.rglob("torch"))
    write_photos(tmp_path / "photos", 4)
    command = [image.root / "environment/bin/label-dir", tmp_path / "photos", tmp_path / "labels.csv"]
    done = subprocess.run(command, env=image.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 labelled, 0 failed" in done.stderr
