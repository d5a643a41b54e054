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
from jobs.watching.watch_store import StoreWatch
from pipeline.errors import ExitCode
from pipeline.records import RunSummary
from pipeline.sources.arguments import refuse_missing_photos
from pipeline.sources.store_url import StoreUrl
from pipeline.sources.walk import WalkRules
from pipeline.tables.part_store import state_folder
from pipeline.watching.event_supervisor import WatchIntervals
from pipeline.watching.table_watch import TableWatch
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
    with requests_by_signal() as control:
        TableWatch(inbox, partial(started, request), intervals, control, _log_run, time.monotonic).run()
    return ExitCode.OK


def _watch_store(request: LabelRequest, timings: WatchTimings) -> int:
    refuse_missing_photos(request.photos)
    with requests_by_signal() as control:
        poll_s = _STORE_POLL_S if timings.poll is None else timings.poll
        StoreWatch(partial(started, request), poll_s, control, _log_run, time.monotonic).run()
    return ExitCode.OK


def _log_run(summary: RunSummary) -> None:
    if summary.labelled or summary.copied or summary.failed or summary.removed or summary.has_new_reviews:
        log_result(sentence(summary), labelled=summary.labelled, failed=summary.failed, removed=summary.removed)
