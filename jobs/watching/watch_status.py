"""`watch-folder status LABELS`: the state and the counts of a watch-folder, as text."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

from jobs.cli.standard_streams import print_text
from jobs.watching.labels_state import STATUS_NAME
from models.system.outside_text import terminal_text
from models.system.process_state import is_alive, start_ticks
from pipeline.errors import InputMissingError
from pipeline.tables.part_store import state_folder

# Written every 2 s, but not while a model is being loaded.
_OUT_OF_DATE_S = 60.0
_NUMBERS = (
    *("pid", "written_at", "started_at", "labelled", "unchanged", "queue_depth", "oldest_unlabelled_s"),
    *("rows_not_durable", "mean_lag_s", "rescan_finds", "process_restarts", "observer_restarts"),
)
_TEXTS = ("state", "health", "mode", "model")


def show_status(labels: Path) -> int:
    """Print the state of the daemon that writes `labels`; return 0 where it runs and is healthy, else 1.

    Raises:
        InputMissingError: no daemon ever wrote there, or its status cannot be read or understood.
    """
    path = state_folder(labels.resolve()) / STATUS_NAME
    try:
        status = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputMissingError(f"{_told(labels)} has no status of a watch-folder") from error
    except OSError as error:
        raise InputMissingError(f"{_told(path)} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputMissingError(f"{_told(path)} is no status of a watch-folder; a running one replaces it") from error
    if not _is_status(status):
        raise InputMissingError(f"{_told(path)} is no status of this watch-folder; a running one replaces it")
    is_running = status["state"] == "running" and _is_process_of(status)
    age_s = time.time() - status["written_at"]
    health = status["health"]
    if is_running and abs(age_s) > _OUT_OF_DATE_S:
        health = f"unknown: the figures are {age_s:.0f} s old (is the disk full, or the process suspended?)"
    for name, value in _lines({**status, "health": health}, is_running):
        print_text(f"{name:<18} {value}")
    return 0 if is_running and health == "ok" else 1


def _is_status(status: object) -> bool:
    if not isinstance(status, dict) or not isinstance(status.get("failed"), dict):
        return False
    # A daemon of an earlier version counts no unsure photos.
    numbers = [*(status.get(name) for name in _NUMBERS), status.get("unsure", 0)]
    if status.get("last_success_at") is not None:
        numbers.append(status["last_success_at"])
    return all(_is_number(number) for number in numbers) and all(isinstance(status.get(name), str) for name in _TEXTS)


def _is_number(value: object) -> bool:
    # Years up to 9999, and no NaN: what the lines below can show.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def _is_process_of(status: dict[str, Any]) -> bool:
    """Tell whether the process that wrote the status lives; another process may have its number by now."""
    pid = int(status["pid"])
    return is_alive(pid) and start_ticks(pid) == status.get("start_ticks")


def _lines(status: dict[str, Any], is_running: bool) -> list[tuple[str, object]]:
    state = f"running, process {status['pid']}" if is_running else "not running"
    failed = ", ".join(f"{count} {name}" for name, count in status["failed"].items()) or "0"
    return [
        ("state", state if is_running or status["state"] == "stopped" else f"{state} (it did not end by itself)"),
        ("health", status["health"]),
        ("watching by", status["mode"]),
        ("model", status["model"]),
        ("since", _time(status["started_at"])),
        ("labelled", f"{status['labelled']}" + (f", {status['unsure']} unsure" if status.get("unsure") else "")),
        ("failed", failed),
        ("unchanged", status["unchanged"]),
        ("waiting", f"{status['queue_depth']}, the oldest for {status['oldest_unlabelled_s']:.0f} s"),
        ("rows not on disk", status["rows_not_durable"]),
        ("mean lag", f"{status['mean_lag_s']:.1f} s"),
        ("last rows", _time(status.get("last_success_at"))),
        ("found by rescan", status["rescan_finds"]),
        ("processes replaced", status["process_restarts"]),
        ("observers replaced", status["observer_restarts"]),
    ]


def _time(at_s: float | None) -> str:
    if at_s is None:
        return "never"
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _told(path: Path) -> str:
    return terminal_text(str(path))
