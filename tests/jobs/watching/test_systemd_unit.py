"""The systemd units of `watch-folder` and `label-serve`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import command_path

# label-serve needs the network, if only this computer's.
_LARGEST_EXPOSURE = {"watch-folder@.service": 1.0, "label-serve.service": 1.6}


@pytest.fixture(params=list(_LARGEST_EXPOSURE))
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit as `--print-unit` prints it."""
    name: str = request.param
    command = [command_path(name.partition(".")[0].rstrip("@")), "--print-unit"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    path = tmp_path / name
    path.write_bytes(done.stdout)
    return path


def _analyze(*arguments: str) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if "Unknown command" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is too old")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_unit_has_no_mistake(unit: Path) -> None:
    assert unit.stem not in _analyze("verify", "--man=no", str(unit))


def test_the_unit_exposes_next_to_nothing(unit: Path) -> None:
    found = re.search(r"Overall exposure level.*?([\d.]+) ", _analyze("security", "--offline=true", str(unit)))
    assert found is not None and float(found[1]) <= _LARGEST_EXPOSURE[unit.name]
