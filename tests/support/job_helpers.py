"""Job files for tests, and the real `label-job` run as cron runs it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import command_path
from tests.faults.live_run import POISON

# The environment that cron gives a job, without HOME.
CRON_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}


def write_job(folder: Path, model: Path, tasks: Mapping[str, str], head: str = "") -> Path:
    """Return the new `folder`/nightly.toml, with one task for each name and further TOML lines in `tasks`."""
    sections = [f'[[task]]\nname = "{name}"\nmodel = "{model}"\n{lines}\n' for name, lines in tasks.items()]
    path = folder / "nightly.toml"
    path.write_text("\n".join([head, *sections]))
    return path


def run_job(job: Path, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Return the finished run of `job`, as `label_job` runs it."""
    return label_job("run", *options, str(job), env=env)


def label_job(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Return a finished `label-job`, run in cron's environment, from the folder / and with a private umask."""
    return subprocess.run(
        [command_path("label-job"), *arguments],
        cwd="/",
        env={**CRON_ENVIRONMENT, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        preexec_fn=_set_private_umask,
    )


def add_waiting_photo(folder: Path) -> None:
    """Write a black photo whose decoding, in a job of `start_job`, waits until there is a file `released` beside it."""
    text = PngInfo()
    text.add_text("Comment", "POISON:wait;")
    Image.new("RGB", (40, 40)).save(folder / "zzz-wait.png", pnginfo=text)


def start_job(job: Path, waiting: Path) -> subprocess.Popen[str]:
    """Return a running `label-job run`; a waiting photo in folder `waiting` keeps it from ending."""
    environment = {**os.environ, "PYTHONPATH": str(POISON), "POISON_FOLDER": str(waiting)}
    command = [command_path("label-job"), "run", str(job)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def summary_of(folder: Path) -> dict[str, Any]:
    """Return the summary that the job in `folder` wrote."""
    content: dict[str, Any] = json.loads((folder / "nightly.summary.json").read_text())
    return content


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds; fail when `process` ends first (a hang meets the test's own limit)."""
    while not condition():
        assert process.poll() is None, "the job ended too soon"
        time.sleep(0.01)


def _set_private_umask() -> None:
    os.umask(0o077)
