"""What a run or a job has done: a sentence for people, JSON and Prometheus text for machines."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from models.system.atomic_file import replacing
from pipeline.records import RunSummary
from pipeline.sources.file_names import printable


class Outcome(StrEnum):
    """How a task ended: `cut_short` and `not_started` are the deadline's doing and no failure."""

    DONE = "done"
    CUT_SHORT = "cut_short"
    NOT_STARTED = "not_started"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one task has done, with its exit code as `label-dir` has them, and its line in `message`.

    `failed` photos were opened by this run; `failed_before_by_class` are rows without a label that it kept.
    """

    name: str
    outcome: Outcome
    exit_code: int
    output: str
    message: str | None = None
    labelled: int = 0
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
    """What a job has done; times are seconds since 1970."""

    job: str
    began_at_s: float
    ended_at_s: float
    exit_code: int
    tasks: tuple[TaskResult, ...]


def sentence(summary: RunSummary) -> str:
    """Say in one line what a run did to one table."""
    parts = [f"{summary.labelled} labelled"]
    if summary.kept:
        of_them = ", ".join(f"{count} {name}" for name, count in summary.kept_failed_by_class.items())
        parts.append(f"{summary.kept} unchanged" + (f" (without a label: {of_them})" if of_them else ""))
    if summary.copied:
        parts.append(f"{summary.copied} known by their bytes")
    by_class = ", ".join(f"{count} {name}" for name, count in summary.failed_by_class.items())
    parts.append(f"{summary.failed} failed" + (f" ({by_class})" if by_class else ""))
    parts.append(f"{summary.skipped} skipped")
    if summary.skipped_links:
        parts.append(f"{summary.skipped_links} links skipped (--follow-links)")
    if summary.removed:
        parts.append(f"{summary.removed} gone")
    if summary.unreadable_folders:
        parts.append(f"{summary.unreadable_folders} folders could not be listed")
    rate = f" ({summary.images_per_s:.0f} images/s)" if summary.labelling_s else ""
    return f"{', '.join(parts)} in {summary.elapsed_s:.1f} s{rate} -> {summary.out}"


def write_json(result: JobResult, path: Path) -> None:
    """Replace `path` by the result as JSON, in one step. Raises OSError."""
    with replacing(path) as stream:
        stream.write(to_json(result).encode())


def to_json(result: JobResult) -> str:
    """Return the result as a JSON object, its times in ISO 8601, UTC, its names fit for a terminal."""

    def iso(seconds: float) -> str:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")

    content = asdict(result)
    times = {"began_at": iso(content.pop("began_at_s")), "ended_at": iso(content.pop("ended_at_s"))}
    return json.dumps({**times, **content}, indent=2) + "\n"


def write_metrics(result: JobResult, path: Path) -> None:
    """Replace `path` by the result in Prometheus' text format, in one step. Raises OSError."""
    with replacing(path) as stream:
        stream.write("".join(f"{line}\n" for line in _metric_lines(result)).encode())


def _metric_lines(result: JobResult) -> Iterator[str]:
    job = _quoted(result.job)
    yield from _gauge("label_dir_job_exit_code", "What the job ended with.", [(f"job={job}", result.exit_code)])
    yield from _gauge("label_dir_job_end_timestamp_seconds", "When.", [(f"job={job}", result.ended_at_s)])
    yield from _gauge(
        "label_dir_job_duration_seconds", "How long.", [(f"job={job}", result.ended_at_s - result.began_at_s)]
    )
    for field, about in (
        ("exit_code", "What label-dir would have ended with."),
        ("labelled", "Photos labelled by this run."),
        ("unchanged", "Rows kept."),
        ("failed", "Photos this run could not label."),
        ("removed", "Rows of vanished photos taken out."),
        ("elapsed_s", "Seconds the task took."),
    ):
        name = "label_dir_task_" + {"elapsed_s": "duration_seconds"}.get(field, field)
        values = [(f"job={job},task={_quoted(task.name)}", getattr(task, field)) for task in result.tasks]
        yield from _gauge(name, about, values)


def _gauge(name: str, about: str, values: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} gauge"
    for labels, value in values:
        yield f"{name}{{{labels}}} {value}"


def _quoted(value: str) -> str:
    escaped = printable(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
