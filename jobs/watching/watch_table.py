"""The options of `label-dir --watch` -> the loop that keeps the table up to date."""

from __future__ import annotations

import time
from functools import partial

from jobs.cli.logging_setup import log_result
from jobs.cli.options import WatchTimings
from jobs.cli.signals import requests_by_signal
from jobs.labelling.label_folder import LabelRequest
from jobs.labelling.results import sentence
from jobs.watching.build_daemon import inbox_folder, poll_interval, started
from pipeline.errors import ExitCode
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import RunSummary
from pipeline.sources.arguments import refuse_missing_photos
from pipeline.sources.store_url import StoreUrl
from pipeline.sources.walk import WalkRules
from pipeline.tables.part_store import state_folder
from pipeline.watching.event_supervisor import WatchIntervals
from pipeline.watching.table.folder_schedule import FolderSchedule
from pipeline.watching.table.run_schedule import RunSchedule
from pipeline.watching.table.table_watch import TableWatch
from pipeline.watching.watched_folder import WatchedFolder

# A listing costs a request for each 1,000 objects, and stores report no changes to a process that merely reads them.
_STORE_POLL_S = 60.0


def watch_table(request: LabelRequest, timings: WatchTimings) -> int:
    """Keep the table up to date with the photos until told to stop; raises what `TableWatch.run` does."""
    if isinstance(request.photos, StoreUrl):
        return _watch_store(request, timings)
    out, options = request.out.resolve(), request.options
    avoid = frozenset({str(out), str(state_folder(out))})
    inbox = WatchedFolder(
        inbox_folder(request), WalkRules(options.include, options.exclude, options.follow_links, avoid), out
    )
    poll_s = poll_interval(timings.poll, inbox)
    intervals = WatchIntervals(timings.settle, timings.flush, timings.rescan, poll_s)
    stats = DaemonStats()
    with requests_by_signal() as control:
        schedule = FolderSchedule(inbox, intervals, stats, control.wake, time.monotonic)
        TableWatch(partial(started, request), schedule, stats, control, _log_run, time.monotonic).run()
    return ExitCode.OK


def _watch_store(request: LabelRequest, timings: WatchTimings) -> int:
    refuse_missing_photos(request.photos)
    schedule = RunSchedule(_STORE_POLL_S if timings.poll is None else timings.poll, time.monotonic)
    with requests_by_signal() as control:
        TableWatch(partial(started, request), schedule, DaemonStats(), control, _log_run, time.monotonic).run()
    return ExitCode.OK


def _log_run(summary: RunSummary) -> None:
    if summary.labelled or summary.copied or summary.failed or summary.removed or summary.has_new_reviews:
        log_result(sentence(summary), labelled=summary.labelled, failed=summary.failed, removed=summary.removed)
