"""From the options of `label-dir --watch` to the loop that keeps the table true."""

from __future__ import annotations

import time
from functools import partial

from jobs.cli.logging_setup import tell
from jobs.cli.signals import requests_by_signal
from jobs.cli.watch_options import RhythmOptions
from jobs.labelling.label_folder import LabelDirOptions
from jobs.labelling.results import sentence
from jobs.watching.build_daemon import poll_interval, started
from pipeline.errors import ExitCode
from pipeline.records import RunSummary
from pipeline.sources.walk import WalkRules
from pipeline.tables.part_store import state_folder
from pipeline.watching.event_supervisor import WatchIntervals
from pipeline.watching.table_watch import TableWatch
from pipeline.watching.watched_folder import WatchedFolder


def watch_table(options: LabelDirOptions, watching: RhythmOptions) -> int:
    """Keep the table the truth about the folder until told to stop; raises what `TableWatch.run` does."""
    out = options.out.resolve()
    avoid = frozenset({str(out), str(state_folder(out))})
    inbox = WatchedFolder(options.photos, WalkRules(options.include, options.exclude, options.follow_links, avoid))
    poll_s = poll_interval(watching.poll_s, inbox)
    intervals = WatchIntervals(watching.settle_s, watching.flush_s, watching.rescan_s, poll_s)
    with requests_by_signal() as control:
        TableWatch(inbox, partial(started, options), intervals, control, _tell, time.monotonic).run()
    return ExitCode.OK


def _tell(summary: RunSummary) -> None:
    if summary.labelled or summary.copied or summary.failed or summary.removed:
        tell(sentence(summary), labelled=summary.labelled, failed=summary.failed, removed=summary.removed)
