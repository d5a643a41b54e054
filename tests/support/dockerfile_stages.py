"""A Dockerfile's stages in fresh environments of this machine, as far as that is possible without its images.

Each stage is a virtual environment and an empty folder in the place of WORKDIR. COPY, ARG, ENV and RUN do what they
say; USER, ENTRYPOINT and CMD are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import dockerfile

_WORKDIR = "/app"


@dataclass(slots=True)
class Stage:
    """One stage: the folder in the place of WORKDIR, the environment beside it, and the variables of ARG and ENV."""

    name: str
    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def workdir(self) -> Path:
        """The folder in the place of WORKDIR."""
        return self.root / "workdir"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a command of this stage, whose `pip` and `python` are the stage's own."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{self.root}/environment/bin:/usr/bin:/bin"
        return {**kept, "PATH": path, "XDG_CACHE_HOME": str(self.root / "cache"), **self.variables}


def run_stages(context: Path, scratch: Path, arguments: dict[str, str] | None = None) -> list[Stage]:
    """All stages of `context`/Dockerfile, built below `scratch`. `arguments` are those of --build-arg.

    Raises AssertionError with the messages of a command that fails.
    """
    stages: list[Stage] = []
    for command in dockerfile.parse_file(str(context / "Dockerfile")):
        words = list(command.value)
        if command.cmd.upper() == "FROM":
            stages.append(_new_stage(words, scratch / str(len(stages))))
            continue
        stage = stages[-1]
        match command.cmd.upper():
            case "ARG":
                name, _, default = words[0].partition("=")
                stage.variables[name] = (arguments or {}).get(name, default)
            case "ENV":
                for name, value in zip(words[::2], words[1::2], strict=True):
                    stage.variables[name] = value.replace(_WORKDIR, str(stage.workdir))
            case "COPY":
                _copy(words, command.flags, context, stage, stages)
            case "RUN":
                _run(words[0], stage)
    return stages


def _new_stage(words: list[str], root: Path) -> Stage:
    stage = Stage(words[2] if len(words) == 3 else "", root)
    stage.workdir.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", root / "environment"], check=True)
    return stage


def _copy(words: list[str], flags: tuple[str, ...], context: Path, stage: Stage, stages: list[Stage]) -> None:
    source_of = {f"--from={other.name}": other.workdir for other in stages}
    base = source_of[flags[0]] if flags else context
    *sources, target = words
    for source in sources:
        found = base / source.removeprefix(f"{_WORKDIR}/")
        place = stage.workdir / target / found.name if target.endswith("/") else stage.workdir / target
        if found.is_dir():
            shutil.copytree(found, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, place)


def _run(line: str, stage: Stage) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=stage.workdir, env=stage.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
