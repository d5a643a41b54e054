"""The options of `label-dir --watch` -> the loop that keeps the table up to date."""

from __future__ import annotations

import time
from functools import partial

from jobs.cli.logging_setup import log_result
from jobs.cli.options import WatchTimings
from jobs.cli.signals import requests_by_signal
from jobs.labelling.label_folder import LabelRequest
from jobs.labelling.results import sentence
from jobs.watching.build_daemon import poll_interval, started
from pipeline.errors import ExitCode
from pipeline.records import RunSummary
from pipeline.sources.walk import WalkRules
from pipeline.tables.part_store import state_folder
from pipeline.watching.event_supervisor import WatchIntervals
from pipeline.watching.table_watch import TableWatch
from pipeline.watching.watched_folder import WatchedFolder


def watch_table(request: LabelRequest, timings: WatchTimings) -> int:
    """Keep the table up to date with the folder until told to stop; raises what `TableWatch.run` does."""
    out, options = request.out.resolve(), request.options
    avoid = frozenset({str(out), str(state_folder(out))})
    inbox = WatchedFolder(request.photos, WalkRules(options.include, options.exclude, options.follow_links, avoid), out)
    poll_s = poll_interval(timings.poll, inbox)
    intervals = WatchIntervals(timings.settle, timings.flush, timings.rescan, poll_s)
    with requests_by_signal() as control:
        TableWatch(inbox, partial(started, request), intervals, control, _log_run, time.monotonic).run()
    return ExitCode.OK


def _log_run(summary: RunSummary) -> None:
    if summary.labelled or summary.copied or summary.failed or summary.removed or summary.has_new_reviews:
        log_result(sentence(summary), labelled=summary.labelled, failed=summary.failed, removed=summary.removed)
