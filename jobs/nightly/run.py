"""Runs the tasks of a job one after the other, under one lock, until the deadline; a failed task ends only itself."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import logging
import os
import subprocess
import time
from pathlib import Path

from jobs.cli.logging_setup import fields, log_result
from jobs.cli.signals import StopSignals
from jobs.labelling.results import JobResult, Outcome, TaskResult, to_json, write_json, write_metrics
from jobs.nightly.job import Job, Task
from jobs.nightly.outputs import refuse_files_of_others
from jobs.nightly.task import run_task
from pipeline.errors import ExitCode, Interrupted, LabelDirError, LockedError, output_errors
from pipeline.run_request import Hooks
from pipeline.sources.file_names import display_name
from pipeline.system.file_lock import StateFolder, held_state
from pipeline.system.ownership import Owner
from pipeline.tables.part_store import state_folder

logger = logging.getLogger(__name__)

_HOOK_TIMEOUT_S = 300.0
# The first of these codes that a task ended with is the exit code of the job.
_MOST_SEVERE_FIRST = (
    ExitCode.TERMINATED,
    ExitCode.INTERRUPTED,
    ExitCode.BUG,
    ExitCode.OUTPUT_UNWRITABLE,
    ExitCode.INPUT_MISSING,
    ExitCode.PHOTOS_GONE,
    ExitCode.LOCKED,
    ExitCode.USAGE,
    ExitCode.SOME_FAILED,
)


def run_job(path: Path, job: Job) -> JobResult:
    """Run every task of the job in file `path`, write its summary, and call its commands.

    `on_failure` is called too where the summary cannot be written, with that error in its `message`.

    Raises:
        LockedError: the job is already running; this run has changed nothing and calls no command.
        UsageError: the summary or the metrics would replace a file that is not this job's.
        OutputError: the summary cannot be written.
    """
    path = path.resolve()
    began_at_s = time.time()
    tasks: tuple[TaskResult, ...] = ()
    try:
        with output_errors(job.summary), held_state(_state_of(path, job), str(path), "run"):
            refuse_files_of_others(path, job)
            result = _run_tasks(path, job)
            tasks = result.tasks
            _write_summaries(result, job)
            _run_hook(job.on_success if result.exit_code == 0 else job.on_failure, result)
            return result
    except LockedError:
        raise
    except LabelDirError as error:
        report_failure(path, job.on_failure, int(error.exit_code), str(error), began_at_s, tasks)
        raise


def _state_of(path: Path, job: Job) -> StateFolder:
    return StateFolder(lock_of(path, job).parent, Owner("state of a job", display_name(str(path))), lambda name: False)


def lock_of(path: Path, job: Job) -> Path:
    """Return the lock of the job file `path`: beside the summary, since a job file may lie where nobody may write."""
    path = path.resolve()
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return state_folder(job.summary.with_name(f"{path.stem[:60]}-{digest}")) / "lock"


def report_failure(
    path: Path,
    command: tuple[str, ...] | None,
    exit_code: int,
    message: str,
    began_at_s: float,
    tasks: tuple[TaskResult, ...] = (),
) -> None:
    """Call the `on_failure` of a job that failed as a whole, with `message` in the summary on its stdin."""
    _run_hook(command, JobResult(str(path), began_at_s, time.time(), exit_code, tasks, message))


def seconds_until(clock_time: str, now: datetime.datetime) -> float:
    """Return the seconds from `now` (local time) to the next `clock_time`, HH:MM; 0 within that minute."""
    hour, minute = (int(part) for part in clock_time.split(":"))
    following = now.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    if following == now.replace(second=0, microsecond=0, fold=0):
        # A scheduler starts a job of this time a moment later.
        return 0.0
    if following < now:
        following += datetime.timedelta(days=1)
    # Subtracting naive local times would ignore a change of the clocks; timestamp() does not.
    return following.timestamp() - now.timestamp()


def _run_tasks(path: Path, job: Job) -> JobResult:
    began_at_s = time.time()
    ends_at_s = began_at_s + seconds_until(job.deadline, datetime.datetime.now()) if job.deadline else float("inf")
    with StopSignals() as signals:
        hooks = Hooks(stop_requested=signals.requested, time_is_up=lambda: time.time() >= ends_at_s)
        results: list[TaskResult] = []
        for task in job.task:
            results.append(_task_result(task, hooks))
            _log_task(results[-1])
    exit_code = next((int(code) for code in _MOST_SEVERE_FIRST if any(r.exit_code == code for r in results)), 0)
    return JobResult(str(path), began_at_s, time.time(), exit_code, tuple(results))


def _task_result(task: Task, hooks: Hooks) -> TaskResult:
    not_started = TaskResult(task.name, Outcome.NOT_STARTED, ExitCode.OK, str(task.output))
    if stop := hooks.stop_requested():
        return dataclasses.replace(not_started, exit_code=128 + stop, message="not started: the job was stopped")
    if hooks.time_is_up():
        return dataclasses.replace(not_started, message="not started: the deadline had passed")
    failed = dataclasses.replace(not_started, outcome=Outcome.FAILED)
    try:
        return run_task(task, hooks)
    except Interrupted as interrupted:
        message = "interrupted; finished labels are kept for the next run"
        code = 128 + interrupted.signal_number
        return dataclasses.replace(not_started, outcome=Outcome.INTERRUPTED, exit_code=code, message=message)
    except LabelDirError as error:
        return dataclasses.replace(failed, exit_code=int(error.exit_code), message=str(error))
    except Exception as error:
        logger.exception("%s: this is a bug, please report it with what follows", task.name)
        message = f"a bug: {type(error).__name__}: {error}"
        return dataclasses.replace(failed, exit_code=int(ExitCode.BUG), message=message)


def _log_task(result: TaskResult) -> None:
    """Log the line of a task; a task that failed logs an error, which `--quiet` does not hide."""
    line = f"{result.name}: {result.message}"
    if result.exit_code == ExitCode.OK:
        log_result(line, task=result.name, outcome=result.outcome, output=result.output)
    else:
        facts = fields(task=result.name, outcome=result.outcome, output=result.output, exit_code=result.exit_code)
        logger.error("%s", line, extra=facts)


def _write_summaries(result: JobResult, job: Job) -> None:
    write_json(result, job.summary)
    if job.metrics is not None:
        try:
            write_metrics(result, job.metrics)
        except OSError as error:
            logger.error("%s cannot be written: %s", job.metrics, error.strerror)


def _run_hook(command: tuple[str, ...] | None, result: JobResult) -> None:
    """Run a command of the job file with the summary on its stdin; a failure is logged and changes nothing else."""
    if command is None:
        return
    try:
        subprocess.run(command, input=to_json(result), text=True, timeout=_HOOK_TIMEOUT_S, check=True)
    except OSError as error:
        logger.error("the command %s cannot be run: %s", command[0], error.strerror)
    except subprocess.CalledProcessError as error:
        logger.error("the command %s ended with exit code %d", command[0], error.returncode)
    except subprocess.TimeoutExpired:
        logger.error("the command %s was killed after %d s", command[0], int(_HOOK_TIMEOUT_S))
