"""Runs one task of a job: bring a table or a dataset up to date, prune old rows, write a report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.labelling.label_folder import LabelRequest, run_request
from jobs.labelling.results import Outcome, TaskResult, sentence
from jobs.nightly.job import Task
from jobs.report.write import write_report
from models.system.outside_text import terminal_text
from pipeline.datasets.partitioned_dataset import Published, days_by_exif, days_by_time, publish
from pipeline.decoding.capture_date import days_taken
from pipeline.errors import AnotherFolderError, ExitCode, PhotosGoneError, output_errors
from pipeline.records import RunSummary
from pipeline.reviews.review_file import reviews_path
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest
from pipeline.sources.file_names import display_name, file_system_name
from pipeline.system.cpus import this_machine, usable_cores
from pipeline.system.file_lock import StateFolder, held, held_state
from pipeline.system.ownership import Owner
from pipeline.tables.part_store import state_folder
from pipeline.tables.reader import read_rows
from pipeline.tables.source import recorded_source, source_of

logger = logging.getLogger(__name__)

# All rows of a dataset, also the pruned ones, in one table beside the dataset: DuckDB's `set/*/*.parquet` also matches
# hidden folders.
_INDEX = "table.parquet"
_DAYS_TAKEN = "taken.parquet"
# Where earlier versions kept these two.
_STATE_INSIDE = ".label-dir"
_DAY_S = 86400


def run_task(task: Task, hooks: Hooks) -> TaskResult:
    """Run the task and return its result; raises what `pipeline.run.run` and the model cache raise."""
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        if task.partition_by is not None:
            with output_errors(task.output):
                stack.enter_context(_dataset_state(task.output))
        request = request_of(task)
        with words_of_a_job(task):
            summary = run(request, hooks)
        published = _publish(task, request.out) if task.partition_by is not None else None
    result = _result(task, summary, published)
    has_changed = summary.has_new_reviews or _has_changed(result, published)
    if task.report is not None and (has_changed or not task.report.exists()):
        _write_report(task, task.report, published)
    return dataclasses.replace(result, elapsed_s=round(time.monotonic() - began_s, 3))


@contextlib.contextmanager
def words_of_a_job(task: Task) -> Iterator[None]:
    """Run a block that asks a person to decide; how to go on is said in keys of a job file, not in options."""
    try:
        yield
    except PhotosGoneError as error:
        raise PhotosGoneError(
            error.fact,
            'if they were deleted, give the task max_gone = "100%" for one run, otherwise look whether the folder is '
            "mounted and the keys include and exclude are meant",
        ) from error
    except AnotherFolderError as error:
        if task.partition_by is None:
            command = shlex.join(["label-dir", "--adopt", str(task.photos), str(task.output)])
            advice = f"give the task another output, or, if the folder was moved, run {terminal_text(command)} once"
        else:
            state = terminal_text(str(state_folder(task.output.resolve())))
            advice = f"give the task another output, or move the dataset and {state} away to label again"
        raise AnotherFolderError(error.fact, advice) from error


@contextlib.contextmanager
def _dataset_state(dataset: Path) -> Iterator[None]:
    """Hold the lock of a dataset, made if it is missing; move the state that an earlier version kept inside beside it.

    Raises:
        LockedError: another job writes the dataset.
        NotOursError: what lies beside the dataset under the name of its state is something else.
        OSError: the folders cannot be made or written.
    """
    dataset.mkdir(parents=True, exist_ok=True)
    inside = dataset / _STATE_INSIDE
    with held_state(_state_of(dataset.resolve()), str(dataset)) as state:
        if inside.is_dir() and not inside.is_symlink():
            # A process of an earlier version would hold this lock.
            with held(state_folder(inside / _INDEX) / "lock", str(dataset)):
                for name in (_INDEX, _DAYS_TAKEN):
                    if (inside / name).is_file() and not (state / name).exists():
                        (inside / name).rename(state / name)
            with contextlib.suppress(OSError):
                inside.rmdir()
        yield


def _state_of(dataset: Path) -> StateFolder:
    return StateFolder(state_folder(dataset), Owner("state of a dataset", display_name(dataset.name)), _is_state)


def _is_state(name: str) -> bool:
    return any(name == file or name.startswith(f".{file}.") for file in (_INDEX, _DAYS_TAKEN))


def _index_of(dataset: Path) -> Path:
    """Return the table of all rows of a dataset; until the first run, the one that an earlier version kept inside."""
    index, inside = state_folder(dataset.resolve()) / _INDEX, dataset / _STATE_INSIDE / _INDEX
    return inside if inside.is_file() and not index.exists() else index


def _has_changed(result: TaskResult, published: Published | None) -> bool:
    if published is not None and (published.written or published.removed):
        return True
    return bool(result.labelled or result.failed or result.removed)


def _write_report(task: Task, report: Path, published: Published | None) -> None:
    if published is not None and not published.written + published.unchanged:
        logger.warning("%s: no report, because there is no partition yet", task.name)
        return
    # A page shows photos of this machine; of objects in a store it has the figures and the rows.
    write_report(task.output, report, task.photos if isinstance(task.photos, Path) else None, title=task.name)


def request_of(task: Task) -> RunRequest:
    """Return the run that brings the task's table up to date; raises what the model cache raises."""
    out = task.output if task.partition_by is None else _index_of(task.output)
    request = run_request(LabelRequest(task.photos, out, task, max_gone=task.max_gone))
    # The table of a dataset lies inside a hidden folder; what persons say of its photos lies beside the dataset.
    request = dataclasses.replace(request, reviews=reviews_path(task.output))
    if task.keep_days is None or task.partition_by in ("exif", "run"):
        return request
    return dataclasses.replace(request, modified_since_us=_kept_since_s(task.keep_days) * 1_000_000)


def _kept_since_s(keep_days: int) -> int:
    """Return the first second, since 1970, of the oldest UTC day that is kept; today is the first of `keep_days`."""
    today = int(time.time()) // _DAY_S
    return (today - keep_days + 1) * _DAY_S


def _publish(task: Task, index: Path) -> Published:
    rows = read_rows(index, with_optional=True)
    with output_errors(task.output):
        if task.partition_by == "exif":
            assert isinstance(task.photos, Path), "a job file with such a task is refused"
            photos = task.photos.resolve()
            names = rows.select(["sha256", "file_name"]).to_pylist()
            paths = {row["sha256"]: f"{photos}/{file_system_name(row['file_name'])}" for row in names if row["sha256"]}
            memory = index.with_name(_DAYS_TAKEN)
            days = days_by_exif(rows, days_taken(paths, memory, usable_cores(this_machine())))
        else:
            days = days_by_time(rows, "mtime" if task.partition_by == "mtime" else "labelled_at")
        source = recorded_source(index) or source_of(task.photos, index)
        return publish(rows, days, task.output, _first_kept_day(task.keep_days), source)


def _first_kept_day(keep_days: int | None) -> str | None:
    if keep_days is None:
        return None
    return datetime.datetime.fromtimestamp(_kept_since_s(keep_days), datetime.UTC).date().isoformat()


def _result(task: Task, summary: RunSummary, published: Published | None) -> TaskResult:
    message = sentence(dataclasses.replace(summary, out=task.output))
    if published is not None:
        message += f", {published.written} partitions written, {published.removed} removed"
    if summary.is_cut_short:
        message += "; stopped by the deadline, the next run continues"
    return TaskResult(
        name=task.name,
        outcome=Outcome.CUT_SHORT if summary.is_cut_short else Outcome.DONE,
        # Only photos that this run could not label count: a known broken photo must not fail the job every night.
        exit_code=int(ExitCode.SOME_FAILED if summary.failed or summary.unreadable_folders else ExitCode.OK),
        output=str(task.output),
        message=message,
        labelled=summary.labelled,
        unsure=summary.unsure,
        unchanged=summary.kept,
        failed=summary.failed,
        failed_by_class=dict(summary.failed_by_class),
        failed_before_by_class=dict(summary.kept_failed_by_class),
        removed=summary.removed,
        skipped=summary.skipped,
        pruned=published.pruned_rows if published else 0,
        images_per_s=round(summary.images_per_s, 1),
        report=str(task.report) if task.report else None,
    )
