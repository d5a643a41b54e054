"""What a run of a job would do, and what would fail, in full sentences."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.nightly.job import Job, Task
from jobs.nightly.outputs import refuse_files_of_others
from jobs.nightly.task import request_of, words_of_a_job
from jobs.report.write import refuse_foreign_page
from pipeline.dry_run import preview
from pipeline.errors import LabelDirError
from pipeline.sources.store_url import StoreUrl

_DATE_OF = {
    "mtime": "the photo was last changed (UTC)",
    "exif": "the photo was taken (EXIF; else last changed, UTC)",
    "run": "the photo was labelled (UTC)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence about a job; `is_problem` marks what would fail."""

    sentence: str
    is_problem: bool = False


def check_job(path: Path, job: Job) -> Iterator[Finding]:
    """Yield what the job in file `path` would do, task by task, and every problem that shows before a run."""
    for task in job.task:
        yield from _about_task(task)
    try:
        refuse_files_of_others(path, job)
    except LabelDirError as error:
        yield _problem(f"{error}.")
    yield from _about_ending(job)


def _about_task(task: Task) -> Iterator[Finding]:
    if problems := [_problem(f"{task.name}: {sentence}") for sentence in _problems(task)]:
        yield from problems
        return
    try:
        with words_of_a_job(task):
            found = preview(request_of(task))
    except LabelDirError as error:
        yield _problem(f"{task.name}: {error}.")
        return
    yield Finding(
        f"{task.name}: of the photos below {task.photos}, {found.pending} are new or changed and would be labelled with"
        f" {task.model}; {found.kept} rows would be kept and {found.removed} would go; {found.skipped} other files"
        " would be skipped."
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
        yield Finding(f"{task.name}: if anything changed, the page {task.report} would be written again.")


def _problem(sentence: str) -> Finding:
    return Finding(sentence, is_problem=True)


def _problems(task: Task) -> Iterator[str]:
    if isinstance(task.photos, StoreUrl):
        if importlib.util.find_spec("obstore") is None:
            yield f"{task.photos} needs the extra `cloud`: pip install 'label-dir[cloud]'."
    elif not task.photos.is_dir():
        yield f"the folder of photos {task.photos} does not exist."
    elif not os.access(task.photos, os.R_OK | os.X_OK):
        yield f"the folder of photos {task.photos} cannot be read."
    if task.report is not None:
        try:
            refuse_foreign_page(task.report)
        except LabelDirError as error:
            yield f"{error}."
    for path, is_folder in ((task.output, task.partition_by is not None), (task.report, False)):
        if path is not None and not _is_writable(path, is_folder):
            yield f"{path} cannot be written."


def _is_writable(path: Path, is_folder: bool) -> bool:
    """Return whether `path` can be replaced; a run creates a missing folder of a dataset, with its parents."""
    folder = path if is_folder else path.parent
    while is_folder and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _about_ending(job: Job) -> Iterator[Finding]:
    if job.deadline is not None:
        yield Finding(f"At {job.deadline} the job would stop and keep its finished work; the next run would continue.")
    for path in (job.summary, job.metrics):
        if path is not None and not _is_writable(path, False):
            yield _problem(f"The summary {path} cannot be written.")
        elif path is not None:
            yield Finding(f"The summary would be written to {path}.")
    for command, when in ((job.on_success, "exits with 0"), (job.on_failure, "exits with anything else")):
        if command is None:
            continue
        if shutil.which(command[0]) is None:
            yield _problem(f"The command {command[0]} is not found in PATH={os.environ.get('PATH', '')}.")
        else:
            yield Finding(f"When the job {when}, {' '.join(command)} would get the summary on its stdin.")
