"""What a job would do tonight, in full sentences; and what would go wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.nightly.job_file import Job, Task
from jobs.nightly.task import request_of
from pipeline.dry_run import preview
from pipeline.errors import LabelDirError

_DATE_OF = {
    "mtime": "the photo was last changed (UTC)",
    "exif": "the photo was taken (EXIF; else last changed, UTC)",
    "run": "the photo was labelled (UTC)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence about a job; a `is_problem` one says what would fail."""

    sentence: str
    is_problem: bool = False


def check_job(job: Job) -> Iterator[Finding]:
    """Yield what the job would do, task by task, and every problem that can be seen beforehand."""
    for task in job.task:
        yield from _about_task(task)
    yield from _about_ending(job)


def _about_task(task: Task) -> Iterator[Finding]:
    problems = list(_problems(task))
    yield from problems
    if problems:
        return
    try:
        found = preview(request_of(task))
    except LabelDirError as error:
        yield Finding(f"{task.name}: {error}.", is_problem=True)
        return
    yield Finding(
        f"{task.name}: of the photos below {task.photos}, {found.pending} are new or changed and would be labelled with"
        f" {task.model}; {found.kept} rows would be kept and {found.removed} would go; {found.skipped} other files"
        " would be passed over."
    )
    if task.partition_by is None:
        yield Finding(f"{task.name}: the rows would be in the table {task.output}.")
    else:
        yield Finding(
            f"{task.name}: the rows would be in {task.output}/date=YYYY-MM-DD/, by the day"
            f" {_DATE_OF[task.partition_by]}."
        )
    if task.keep_days is not None:
        yield Finding(f"{task.name}: only the last {task.keep_days} days would be kept.")
    if task.report is not None:
        yield Finding(f"{task.name}: if anything changed, the page {task.report} would be written anew.")


def _problems(task: Task) -> Iterator[Finding]:
    if not task.photos.is_dir():
        yield Finding(f"{task.name}: the folder of photos {task.photos} does not exist.", is_problem=True)
    elif not os.access(task.photos, os.R_OK | os.X_OK):
        yield Finding(f"{task.name}: the folder of photos {task.photos} cannot be read.", is_problem=True)
    for path, is_folder in ((task.output, task.partition_by is not None), (task.report, False)):
        if path is not None and not _is_writable(path, is_folder):
            yield Finding(f"{task.name}: {path} cannot be written.", is_problem=True)


def _is_writable(path: Path, is_folder: bool) -> bool:
    """Tell whether `path` can be replaced; a dataset's folder is made, with its parents, where it is missing."""
    folder = path if is_folder else path.parent
    while is_folder and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _about_ending(job: Job) -> Iterator[Finding]:
    if job.deadline is not None:
        yield Finding(f"At {job.deadline} the job would stop with what it has, and go on the next time.")
    for path in (job.summary, job.metrics):
        if path is not None and not _is_writable(path, False):
            yield Finding(f"The summary {path} cannot be written.", is_problem=True)
        elif path is not None:
            yield Finding(f"What was done would be written to {path}.")
    for command, when in ((job.on_success, "exits with 0"), (job.on_failure, "exits with anything else")):
        if command is None:
            continue
        if shutil.which(command[0]) is None:
            yield Finding(
                f"The command {command[0]} is not found in PATH={os.environ.get('PATH', '')}.", is_problem=True
            )
        else:
            yield Finding(f"When the job {when}, {' '.join(command)} would get the summary on its stdin.")
