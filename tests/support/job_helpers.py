"""What the tests of jobs share: job files in a folder of their own, and the real command run as cron would."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import command_path

# What cron gives a job, less HOME: no terminal, a short PATH, the folder / and a private umask.
CRON_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}


def write_job(folder: Path, model: Path, tasks: Mapping[str, str], head: str = "") -> Path:
    """Write `folder`/nightly.toml with one task for each of `tasks`: its name and its further lines."""
    sections = [f'[[task]]\nname = "{name}"\nmodel = "{model}"\n{lines}\n' for name, lines in tasks.items()]
    path = folder / "nightly.toml"
    path.write_text("\n".join([head, *sections]))
    return path


def run_job(job: Path, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the job to its end, from the folder / and in nothing but cron's environment."""
    return label_job("run", *options, str(job), env=env)


def label_job(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `label-job` with `arguments` to its end, as `run_job` does."""
    return subprocess.run(
        [command_path("label-job"), *arguments],
        cwd="/",
        env={**CRON_ENVIRONMENT, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        preexec_fn=_private,
    )


def start_job(job: Path) -> subprocess.Popen[str]:
    """Start the job and return at once."""
    return subprocess.Popen([command_path("label-job"), "run", str(job)], stderr=subprocess.PIPE, text=True)


def summary_of(folder: Path) -> dict[str, Any]:
    """Return the summary that the job in `folder` wrote."""
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds; fail when `process` ends first (a hang meets the test's own limit)."""
    while not condition():
        assert process.poll() is None, "the job ended too soon"


def _private() -> None:
    os.umask(0o077)
