"""From the options of `label-dir --watch` to the loop that keeps the table true."""

from __future__ import annotations

import time
from dataclasses import replace

from jobs.cli.logging_setup import tell
from jobs.cli.signals import requests_by_signal
from jobs.cli.watch_options import RhythmOptions
from jobs.labelling.label_folder import LabelDirOptions
from jobs.labelling.results import sentence
from jobs.watching.build_daemon import poll_interval, started
from pipeline.errors import ExitCode
from pipeline.labeller import Labeller
from pipeline.records import RunSummary
from pipeline.run import RunRequest
from pipeline.sources.walk import WalkRules
from pipeline.tables.part_store import state_folder
from pipeline.watching.event_supervisor import WatchIntervals
from pipeline.watching.table_watch import TableIntervals, TableWatch
from pipeline.watching.watched_folder import WatchedFolder


def watch_table(options: LabelDirOptions, watching: RhythmOptions) -> int:
    """Keep the table the truth about the folder until told to stop; raises what `TableWatch.run` does."""
    out = options.out.resolve()
    avoid = frozenset({str(out), str(state_folder(out))})
    inbox = WatchedFolder(options.photos, WalkRules(options.include, options.exclude, options.follow_links, avoid))
    sight = WatchIntervals(watching.rescan_s, poll_interval(watching.poll_s, inbox))
    rhythm = TableIntervals(watching.flush_s, watching.settle_s, sight)
    is_first = True

    def start() -> tuple[RunRequest, Labeller]:
        nonlocal is_first
        request, labeller = started(options)
        request, is_first = replace(request, fresh=options.fresh and is_first), False
        return request, labeller

    with requests_by_signal() as (requests, wakeup):
        TableWatch(inbox, start, rhythm, requests, wakeup, _tell, time.monotonic).run()
    return ExitCode.OK


def _tell(summary: RunSummary) -> None:
    if summary.labelled or summary.copied or summary.failed or summary.removed:
        tell(sentence(summary), labelled=summary.labelled, failed=summary.failed, removed=summary.removed)
