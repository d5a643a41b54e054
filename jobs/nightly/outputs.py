"""The files and datasets that a job writes: none may be that of two keys, and none may be of another owner."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.nightly.toml_lines import Place
from models.system.outside_text import terminal_text
from pipeline.errors import UsageError, output_errors

if TYPE_CHECKING:
    from jobs.nightly.job import Job

_METRICS_BEGIN = b"# HELP label_dir_job_"
_LONGEST_SUMMARY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Output:
    """A path that a job writes: its place in the job file, what it is, and the path without links."""

    place: Place
    name: str
    path: Path
    resolved: Path
    has_rows: bool = False
    is_dataset: bool = False


def overlaps(job_file: Path, job: Job) -> Iterator[tuple[Place, str]]:
    """Yield each pair of outputs that overwrite each other: the place of the later one, and a sentence."""
    for first, second in combinations(_outputs(job_file, job), 2):
        if first.resolved == second.resolved:
            yield second.place, f"{second.name} is the same path as {first.name}: {terminal_text(str(second.path))}"
        elif holder := _holder(first, second):
            inner = second if holder is first else first
            yield inner.place, f"{inner.name} lies inside {holder.name}, the dataset {terminal_text(str(holder.path))}"


def refuse_files_of_others(job_file: Path, job: Job) -> None:
    """Check that the summary and the metrics replace nothing but those of this job.

    Raises:
        UsageError: one of the two paths holds something else, or the summary of another job file.
        OutputError: a file that is there cannot be read.
    """
    with output_errors(job.summary):
        if job.summary.exists():
            _refuse_summary_of_another(job.summary, job_file.resolve())
    if job.metrics is None:
        return
    with output_errors(job.metrics):
        if job.metrics.exists():
            content = _beginning(job.metrics)
            if content.strip() and not content.startswith(_METRICS_BEGIN):
                raise UsageError(f"{_told(job.metrics)} holds no metrics of a job; choose another name")


def _outputs(job_file: Path, job: Job) -> Iterator[Output]:
    yield _output((), "the job file", job_file)
    yield _output(("summary",), "summary", job.summary)
    if job.metrics is not None:
        yield _output(("metrics",), "metrics", job.metrics)
    for index, task in enumerate(job.task):
        of_task = f"of task {task.name!r}"
        is_dataset = task.partition_by is not None
        yield _output(("task", index, "output"), f"output {of_task}", task.output, True, is_dataset)
        if task.report is not None:
            yield _output(("task", index, "report"), f"report {of_task}", task.report)


def _output(place: Place, name: str, path: Path, has_rows: bool = False, is_dataset: bool = False) -> Output:
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):
        # A link that leads to itself; the task reports this when it runs.
        resolved = path.absolute()
    return Output(place, name, path, resolved, has_rows, is_dataset)


def _holder(first: Output, second: Output) -> Output | None:
    """Return the dataset of the two that contains the other table or dataset: its readers would count rows twice."""
    if not (first.has_rows and second.has_rows):
        return None
    if first.is_dataset and first.resolved in second.resolved.parents:
        return first
    return second if second.is_dataset and second.resolved in first.resolved.parents else None


def _refuse_summary_of_another(summary: Path, job_file: Path) -> None:
    try:
        content = json.loads(_beginning(summary))
        is_summary = isinstance(content["tasks"], list)
        owner = Path(content["job"])
        # Neither half a surrogate pair nor a NUL names a file.
        is_summary = is_summary and "\0" not in os.fsdecode(os.fsencode(owner))
    except (ValueError, RecursionError, TypeError, KeyError):
        is_summary, owner = False, job_file
    if not is_summary:
        raise UsageError(f"{_told(summary)} holds no summary of a job; choose another name, or move it away")
    # Earlier versions recorded the path as it was given; a job file that is gone was moved or renamed.
    if owner.is_absolute() and owner.resolve() != job_file and owner.exists():
        raise UsageError(f"{_told(summary)} is the summary of {_told(owner)}; give each job file its own key 'summary'")


def _beginning(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"{_told(path)} is no regular file; choose another name")
    with path.open("rb") as stream:
        return stream.read(_LONGEST_SUMMARY_BYTES)


def _told(path: Path) -> str:
    return terminal_text(str(path))
