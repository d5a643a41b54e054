"""The result of a run or a job: a sentence for people, JSON and Prometheus text for machines."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from models.system.atomic_file import replacing
from models.system.outside_text import terminal_text
from pipeline.records import RunSummary


class Outcome(StrEnum):
    """How a task ended; `cut_short` and `not_started` are due to the deadline and no failures."""

    DONE = "done"
    CUT_SHORT = "cut_short"
    NOT_STARTED = "not_started"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one task: an exit code of `label-dir`, its line in `message`, and its counts.

    `unsure` counts those of the `labelled` photos whose label is below a threshold, `failed` photos that this run
    opened, `failed_before_by_class` kept rows without a label.
    """

    name: str
    outcome: Outcome
    exit_code: int
    output: str
    message: str | None = None
    labelled: int = 0
    unsure: int = 0
    unchanged: int = 0
    failed: int = 0
    failed_by_class: Mapping[str, int] | None = None
    failed_before_by_class: Mapping[str, int] | None = None
    removed: int = 0
    skipped: int = 0
    pruned: int = 0
    elapsed_s: float = 0.0
    images_per_s: float = 0.0
    report: str | None = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job; times are seconds since 1970. `message` says why the job failed as a whole."""

    job: str
    began_at_s: float
    ended_at_s: float
    exit_code: int
    tasks: tuple[TaskResult, ...]
    message: str | None = None


def sentence(summary: RunSummary) -> str:
    """Return in one line what a run did to one table."""
    parts = [f"{summary.labelled} labelled" + (f" ({summary.unsure} unsure)" if summary.unsure else "")]
    if summary.kept:
        failed_before = ", ".join(f"{count} {name}" for name, count in summary.kept_failed_by_class.items())
        parts.append(f"{summary.kept} unchanged" + (f" (without a label: {failed_before})" if failed_before else ""))
    if summary.copied:
        parts.append(f"{summary.copied} known by their bytes")
    by_class = ", ".join(f"{count} {name}" for name, count in summary.failed_by_class.items())
    parts.append(f"{summary.failed} failed" + (f" ({by_class})" if by_class else ""))
    unread = ", ".join(f"{count} {kind}" for kind, count in summary.unread_kinds.items())
    parts.append(f"{summary.skipped} skipped" + (f" (kinds that are not decoded: {unread})" if unread else ""))
    if summary.skipped_links:
        parts.append(f"{summary.skipped_links} links skipped (--follow-links)")
    if summary.removed:
        parts.append(f"{summary.removed} gone")
    if summary.has_new_reviews:
        parts.append("new reviews taken over")
    if summary.unreadable_folders:
        parts.append(f"{summary.unreadable_folders} folders could not be listed")
    rate = f" ({summary.images_per_s:.0f} images/s)" if summary.labelling_s else ""
    return f"{', '.join(parts)} in {summary.elapsed_s:.1f} s{rate} -> {summary.out}"


def write_json(result: JobResult, path: Path) -> None:
    """Replace `path` by the result as JSON, in one step. Raises OSError."""
    with replacing(path) as stream:
        stream.write(to_json(result).encode())


def to_json(result: JobResult) -> str:
    """Return the result as a JSON object, with its times in ISO 8601, UTC."""

    def iso(seconds: float) -> str:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")

    content = asdict(result)
    times = {"began_at": iso(content.pop("began_at_s")), "ended_at": iso(content.pop("ended_at_s"))}
    return json.dumps({**times, **content}, indent=2) + "\n"


def write_metrics(result: JobResult, path: Path) -> None:
    """Replace `path` by the result in Prometheus' text format, in one step. Raises OSError."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry, job = CollectorRegistry(), terminal_text(result.job)
    for name, about, value in (
        ("exit_code", "Exit code of the job.", result.exit_code),
        ("end_timestamp_seconds", "When the job ended.", result.ended_at_s),
        ("duration_seconds", "How long the job took.", result.ended_at_s - result.began_at_s),
    ):
        Gauge(f"label_dir_job_{name}", about, ["job"], registry=registry).labels(job).set(value)
    for name, about, field in (
        ("exit_code", "Exit code of label-dir for this task.", "exit_code"),
        ("labelled", "Photos labelled by this run.", "labelled"),
        ("unsure", "Of those, photos whose label is below a threshold.", "unsure"),
        ("unchanged", "Rows kept.", "unchanged"),
        ("failed", "Photos this run could not label.", "failed"),
        ("removed", "Rows of vanished photos removed.", "removed"),
        ("duration_seconds", "How long the task took.", "elapsed_s"),
    ):
        gauge = Gauge(f"label_dir_task_{name}", about, ["job", "task"], registry=registry)
        for task in result.tasks:
            gauge.labels(job, task.name).set(getattr(task, field))
    with replacing(path) as stream:
        stream.write(generate_latest(registry))
