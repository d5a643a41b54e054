"""One checkout of this project, whose commands run with the interpreter that runs the benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

_LABEL_DIR = "from jobs.label_dir import main; main()"


class Checkout:
    """One of the two: where its packages are, and a cache folder of its own, since each builds its own models."""

    def __init__(self, name: str, folder: Path, home: Path) -> None:
        self.name = name
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "XDG_CACHE_HOME": str(home / f"{name} cache"),
            "PYTHONDONTWRITEBYTECODE": "",
        }
        found = self.python(
            "import jobs, models, pipeline; print(*jobs.__path__, *models.__path__, *pipeline.__path__)"
        )
        if found.split() != [str(folder / package) for package in ("jobs", "models", "pipeline")]:
            raise click.ClickException(f"{folder}: Python takes the packages from {found}")

    def python(self, program: str) -> str:
        """Run a program on this checkout's packages and return what it prints."""
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=self.environment, check=True, text=True, stdout=subprocess.PIPE
        ).stdout.strip()

    def label_dir(self, *arguments: object) -> subprocess.Popen[str]:
        """Start this checkout's label-dir."""
        command = [sys.executable, "-c", _LABEL_DIR, *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, text=True, stderr=subprocess.PIPE)


def label(checkout: Checkout, *arguments: object) -> tuple[int, str]:
    """Run label-dir to its end; return its exit code and its last line."""
    process = checkout.label_dir(*arguments)
    _, told = process.communicate()
    if process.returncode not in (0, 3):
        raise click.ClickException(f"{checkout.name}: exit code {process.returncode}\n{told}")
    return process.returncode, told.splitlines()[-1]
