"""The options of `watch-folder` -> a running daemon: checks, lock, collaborators, signals."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.cli.options import WatchTimings
from jobs.cli.signals import requests_by_signal
from jobs.labelling.label_folder import LabelRequest, run_request
from jobs.watching.labels_state import STATUS_NAME, locked_state
from pipeline.datasets.append_dataset import AppendDataset
from pipeline.errors import ExitCode, OutputError, UsageError, output_errors
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.prometheus import MetricsServer
from pipeline.monitoring.sd_notify import SdNotify
from pipeline.monitoring.status_reporter import StatusReporter
from pipeline.run_request import RunRequest
from pipeline.sources.walk import WalkRules
from pipeline.tables.arrow import pa
from pipeline.watching.control import LoopControl
from pipeline.watching.daemon import Daemon
from pipeline.watching.done_action import DoneAction
from pipeline.watching.event_supervisor import POLL_S, EventSupervisor, WatchIntervals
from pipeline.watching.labeller_supervisor import LabellerSupervisor, RunningLabeller
from pipeline.watching.pending_files import PendingFiles
from pipeline.watching.row_committer import RowCommitter
from pipeline.watching.scan_schedule import ScanSchedule
from pipeline.watching.scanner import Scanner
from pipeline.watching.settle_tracker import SettleTracker
from pipeline.watching.watched_folder import WatchedFolder, output_id

logger = logging.getLogger(__name__)

# With --once nothing retries what these problems have left undone.
_LEFT_UNDONE = ("index", "done")


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The options of `watch-folder`; `labelling.out` is the folder of the labels, `format` that of its parts."""

    labelling: LabelRequest
    timings: WatchTimings
    once: bool
    done: str
    format: str
    part_rows: int
    metrics: str | None
    status: Path | None


def watch_folder(options: WatchOptions) -> int:
    """Watch the inbox until a signal stops the daemon, and return the exit code.

    Raises:
        UsageError: the options contradict each other, or one folder lies in the other.
        InputMissingError: the inbox does not exist.
        OutputError: the labels cannot be written.
        LockedError: another process writes the same labels.
        LabelDirError: the model cannot be loaded.
    """
    labels = options.labelling.out
    done_action = _done_action(options)
    _refuse_nesting(inbox_folder(options.labelling).resolve(), labels.resolve())
    stats = DaemonStats()
    # Arrow's own allocators keep the memory of a commit; over months of commits that grows without use.
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(requests_by_signal())
        with output_errors(labels):
            labels.parent.mkdir(parents=True, exist_ok=True)
            state = stack.enter_context(locked_state(labels))
            sink = AppendDataset(labels, options.format, options.labelling.options.topk, options.part_rows)
        stack.callback(sink.close)
        server = MetricsServer(*_address(options.metrics), stats) if options.metrics else None
        if server is not None:
            stack.callback(server.close)
        _daemon(options, done_action, sink, state / STATUS_NAME, stats, server, control).run(options.once)
    if options.once and (left := [stats.problems[area] for area in _LEFT_UNDONE if area in stats.problems]):
        raise OutputError("; ".join(left))
    return ExitCode.SOME_FAILED if options.once and stats.failed else ExitCode.OK


def _daemon(
    options: WatchOptions,
    done_action: DoneAction,
    sink: AppendDataset,
    status: Path,
    stats: DaemonStats,
    server: MetricsServer | None,
    control: LoopControl,
) -> Daemon:
    clock = time.monotonic
    request, timings = options.labelling, options.timings
    avoid = frozenset() if done_action.target is None else frozenset({str(done_action.target)})
    inbox = WatchedFolder(
        inbox_folder(request), WalkRules(request.options.include, request.options.exclude, avoid=avoid), request.out
    )
    poll_s = poll_interval(timings.poll, inbox)
    intervals = WatchIntervals(timings.settle, timings.flush, timings.rescan, poll_s, options.once)
    schedule = ScanSchedule(intervals.scan_s, clock)
    tracker = SettleTracker(intervals.settle_s, clock)
    row_committer = RowCommitter(sink, done_action, intervals.flush_s, clock, stats, schedule.request)
    scanner = Scanner(inbox, schedule, clock, row_committer.put_back)
    pending_files = PendingFiles(inbox, scanner, tracker, sink, stats, row_committer.finish_labelled)
    event_supervisor = EventSupervisor(inbox, schedule, intervals, stats, control.wake, clock)
    status_files = [status, *([options.status] if options.status else [])]
    reporter = StatusReporter(stats, SdNotify(), status_files, server, clock)

    def start_labeller() -> RunningLabeller:
        run_request, labeller = started(request)
        stats.model = run_request.artifact.model_id
        return labeller

    labeller_supervisor = LabellerSupervisor(start_labeller, stats, clock)
    return Daemon(event_supervisor, pending_files, row_committer, labeller_supervisor, stats, reporter, control, clock)


def inbox_folder(request: LabelRequest) -> Path:
    """Return the folder that is watched; only folders report changes and have a marker."""
    assert isinstance(request.photos, Path)
    return request.photos


def started(request: LabelRequest) -> tuple[RunRequest, Labeller]:
    """Return the run that `request` asks for and a running, warm labeller for it; raises what `run_request` raises."""
    run = run_request(request)
    labeller = Labeller(run.artifact, run.plan, run.source).__enter__()
    try:
        labeller.warm_up()
    except BaseException:
        labeller.close()
        raise
    return run, labeller


def poll_interval(poll_s: float | None, inbox: WatchedFolder) -> float | None:
    """Return how often to poll, in seconds: as requested, or the default on a network share; None to rely on events."""
    if poll_s is None and inbox.is_on_network():
        logger.info("%s is a network share, which reports no changes: polling", inbox.folder)
        return POLL_S
    return poll_s


def _done_action(options: WatchOptions) -> DoneAction:
    inbox = inbox_folder(options.labelling).resolve()
    owner = output_id(options.labelling.out)
    kind, _, place = options.done.partition(":")
    if options.done in ("keep", "delete"):
        return DoneAction(inbox, delete=options.done == "delete", owner=owner)
    if kind != "move" or not place:
        raise UsageError(f"--done {options.done}: keep, delete or move:DIR")
    target = Path(place).resolve()
    if target == inbox or target in inbox.parents:
        raise UsageError(f"--done {options.done}: the inbox lies in that folder; choose another folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target} cannot be made: {error.strerror or error}") from error
    return DoneAction(inbox, target=target, owner=owner)


def _refuse_nesting(inbox: Path, labels: Path) -> None:
    if inbox == labels or inbox in labels.parents or labels in inbox.parents:
        raise UsageError("the labels and the inbox must not lie in each other; choose a folder beside the inbox")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--metrics {text}: write HOST:PORT, as in 127.0.0.1:9108")
    return host.strip("[]"), int(port)
