"""`watch-folder status LABELS`: the state and the counts of a watch-folder, as text."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from jobs.watching.build_daemon import STATUS_NAME
from models.system.process_state import is_alive
from pipeline.errors import InputMissingError
from pipeline.sources.file_names import printable
from pipeline.tables.append_dataset import STATE_FOLDER


def show_status(labels: Path) -> int:
    """Print the state of the daemon that writes `labels`; return 0 where it runs and is healthy, else 1.

    Raises:
        InputMissingError: no daemon has written a status there.
    """
    try:
        status = json.loads((labels / STATE_FOLDER / STATUS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputMissingError(f"{labels} has no status of a watch-folder") from error
    is_running = status["state"] == "running" and is_alive(status["pid"])
    for name, value in _lines(status, is_running):
        click.echo(f"{name:<18} {printable(str(value))}")
    return 0 if is_running and status["health"] == "ok" else 1


def _lines(status: dict[str, Any], is_running: bool) -> list[tuple[str, object]]:
    state = f"running, process {status['pid']}" if is_running else "not running"
    failed = ", ".join(f"{count} {name}" for name, count in status["failed"].items()) or "0"
    return [
        ("state", state if is_running or status["state"] == "stopped" else f"{state} (it did not end by itself)"),
        ("health", status["health"]),
        ("watching by", status["mode"]),
        ("model", status["model"]),
        ("since", _time(status["started_at"])),
        ("labelled", status["labelled"]),
        ("failed", failed),
        ("unchanged", status["unchanged"]),
        ("waiting", f"{status['queue_depth']}, the oldest for {status['oldest_unlabelled_s']:.0f} s"),
        ("rows not on disk", status["rows_not_durable"]),
        ("mean lag", f"{status['mean_lag_s']:.1f} s"),
        ("last rows", _time(status["last_success_at"])),
        ("found by rescan", status["rescan_finds"]),
        ("processes replaced", status["process_restarts"]),
        ("observers replaced", status["observer_restarts"]),
    ]


def _time(at_s: float | None) -> str:
    if at_s is None:
        return "never"
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
