"""The command `watch-folder INBOX LABELS`: photos that arrive in a folder become rows, for months."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from jobs.cli.options import (
    LabellingOptions,
    WatchTimings,
    context_settings,
    log_format_option,
    print_unit_option,
    quiet_option,
    take_options,
    with_options,
)

_EPILOG = """\b
Examples:
  watch-folder inbox/ labels/                     label the photos there, then each that arrives
  watch-folder inbox/ labels/ --done move:done/   move each photo once its row is on disk
  watch-folder inbox/ labels/ --once              label the photos there and end
  watch-folder status labels/                     how is the running one?
  watch-folder --print-unit > /etc/systemd/system/watch-folder@.service

\b
Rows appear in labels/date=YYYY-MM-DD/part-*.parquet, to be read at any time:
  duckdb -c "SELECT * FROM 'labels/*/*.parquet'"

\b
Signals: SIGTERM and Ctrl-C finish the photos in flight and end with 0; SIGHUP loads the model again.
Exit codes: 0 ended as requested; 2 usage; 3 with --once, some files have error rows; 66 inbox missing;
74 labels can't be written; 75 another watch-folder writes there.

Every option can be set by an environment variable: LABEL_DIR_FLUSH=5s is --flush 5s.
"""
_CONTEXT = context_settings("LABEL_DIR")


@click.command(epilog=_EPILOG, context_settings=_CONTEXT)
@click.argument("inbox", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@with_options(WatchTimings)
@click.option("--once", is_flag=True, help="Label the photos there, then end.")
@click.option("--done", default="keep", show_default=True, metavar="keep|delete|move:DIR", help="Labelled photos.")
@click.option("--format", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True, help="Of parts.")
@click.option("--part-rows", type=click.IntRange(1), default=50_000, show_default=True, help="Rows of a full part.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve /metrics (Prometheus) and /healthz there.")
@click.option("--status", type=click.Path(path_type=Path), metavar="FILE", help="Keep the figures as JSON there.")
@with_options(LabellingOptions, "follow_links")
@quiet_option
@log_format_option
@print_unit_option("watch-folder@.service")
@click.version_option(package_name="label-dir")
def command(
    inbox: Path,
    labels: Path,
    quiet: bool,
    log_format: str,
    **parsed: Any,
) -> int:
    """Label the photos in folder INBOX, those that are there and those that arrive, into dated parts below LABELS.

    Each content under each name gets one row, also after a crash. A photo that is still being written is left alone
    until it no longer changes. `watch-folder status LABELS` shows the state of a running watch-folder.
    """
    # Imported here, because child processes import this module again and need none of these.
    from jobs.cli.logging_setup import log_to_stderr
    from jobs.labelling.label_folder import LabelRequest
    from jobs.watching.build_daemon import WatchOptions, watch_folder

    log_to_stderr("watch-folder", level=logging.ERROR if quiet else logging.INFO, log_format=log_format)
    labelling = LabelRequest(inbox, labels, take_options(LabellingOptions, parsed), quiet)
    timings = take_options(WatchTimings, parsed)
    return watch_folder(WatchOptions(labelling=labelling, timings=timings, **parsed))


@click.command(context_settings=_CONTEXT)
@click.argument("labels", type=click.Path(path_type=Path))
def status_command(labels: Path) -> int:
    """Print the state of the watch-folder that writes LABELS; exit code 0 where it runs and is healthy, else 1."""
    from jobs.watching.watch_status import show_status

    return show_status(labels)


def main() -> None:
    """Run the command line."""
    from jobs.cli.signals import end_at_once_by_signal

    end_at_once_by_signal()
    # numpy would start threads, and a process with threads cannot fork the fork server of the decode workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jobs.cli.entry_point import end_with_exit_code

    if sys.argv[1:2] == ["status"]:
        del sys.argv[1]
        end_with_exit_code(status_command, "watch-folder status")
    end_with_exit_code(command, "watch-folder")


if __name__ == "__main__":
    main()
