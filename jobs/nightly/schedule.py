"""The crontab line or the systemd units of a job, for the user to install."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import resources
from pathlib import Path

from models.system.atomic_file import replacing
from pipeline.errors import UsageError, output_errors

_UNIT_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def cron_line(program: Path, job: Path, at: str) -> str:
    """Return the crontab line that runs `job` with `program` each day `at` (HH:MM, local time)."""
    hour, minute = at.split(":")
    # cron ends the command at an unescaped %.
    command = f"{shlex.quote(str(program))} run --quiet {shlex.quote(str(job))}".replace("%", r"\%")
    if "\n" in command:
        raise UsageError("a crontab line cannot hold a path with a line break")
    return f"{int(minute)} {int(hour)} * * * {command}"


def write_units(program: Path, job: Path, at: str, folder: Path) -> tuple[Path, Path]:
    """Write the service and the timer of `job` to `folder` and return their paths.

    Raises:
        OutputError: a unit cannot be written.
    """
    name = "label-job-" + (_UNIT_NAME.sub("-", job.stem).strip("-") or "job")
    values = {
        "JOB": _escaped_description(str(job)),
        "COMMAND": f"{_quoted_word(str(program))} run {_quoted_word(str(job))}",
        "AT": f"*-*-* {at}:00",
    }
    written = []
    for kind in ("service", "timer"):
        template = (resources.files("jobs") / "units" / f"label-job.{kind}.in").read_text(encoding="utf-8")
        content = re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], template)
        path = folder / f"{name}.{kind}"
        with output_errors(path), replacing(path) as stream:
            stream.write(content.encode("utf-8", "surrogateescape"))
        written.append(path)
    return written[0], written[1]


def verify_messages(units: tuple[Path, ...]) -> str | None:
    """Return the errors that `systemd-analyze verify` reports, "" for none, None where it is not installed."""
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return None
    return "" if done.returncode == 0 else done.stderr.strip()


def _quoted_word(text: str) -> str:
    """Return `text` as one word of ExecStart, in which systemd expands C escapes, specifiers (%) and variables ($)."""
    escaped = "".join(f"\\x{ord(c):02x}" if ord(c) < 32 or c in '"\\' else c for c in text)
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


def _escaped_description(text: str) -> str:
    return re.sub(r"[\x00-\x1f]", "?", text).replace("%", "%%").rstrip("\\")
