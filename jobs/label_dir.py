"""The command `label-dir PHOTOS OUT`: a folder of photos becomes a table."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.duration_type import Duration
from jobs.cli.gone_limit_type import GoneLimitType
from jobs.cli.options import (
    LabellingOptions,
    WatchTimings,
    context_settings,
    log_format_option,
    quiet_option,
    take_options,
    with_options,
)
from jobs.cli.place_type import PlaceType
from jobs.scaling.shard import Shard, ShardType, parts_place
from pipeline.gone_guard import GoneLimit
from pipeline.loading.loader_kind import LoaderKind
from pipeline.sources.store_url import Place, StoreUrl

if TYPE_CHECKING:
    from jobs.labelling.label_folder import LabelRequest
    from jobs.scaling.range_labeller import PartsRequest
    from pipeline.records import RunSummary

_EPILOG = """\b
Examples:
  label-dir photos/ labels.parquet          label every photo below photos/
  label-dir photos/ labels.csv              the same as CSV
  label-dir photos/ labels.parquet          again: only new and changed photos are opened
  label-dir s3://bucket/photos/ labels.parquet   photos of an object store (extra: cloud)
  label-dir --shard 3/16 s3://bucket/photos/ s3://bucket/labels/   a share of the parts, on one of 16 machines
  label-dir --ray auto s3://bucket/photos/ s3://bucket/labels/   all parts, on the nodes of a Ray cluster (extra: ray)
  label-dir -m resnet18 photos/ out.csv     another model (label-models list)
  label-dir --exclude 'thumbs/*' photos/ labels.parquet
  label-dir --tune photos/ labels.parquet   first find the fastest plan for this machine; later runs use it
  label-dir --watch photos/ labels.parquet  then keep OUT up to date with photos/

\b
Exit codes: 0 all labelled; 2 usage; 3 finished, some files have error rows; 66 input missing;
69 most photos of the table are gone (see --max-gone); 74 output can't be written;
75 another run holds the lock; 130/143 interrupted, run it again to go on.

See the table: label-show OUT at a terminal, label-report OUT PAGE.html in a browser. Every night: label-job.

Every option can be set by an environment variable: LABEL_DIR_BATCH_SIZE=32 is --batch-size 32.
"""


@click.command(epilog=_EPILOG, context_settings=context_settings("LABEL_DIR"))
@click.argument("photos", type=PlaceType())
@click.argument("out", metavar="OUT")
@with_options(LabellingOptions)
@click.option("--fresh", is_flag=True, help="Label everything again, also what has not changed.")
@click.option("--adopt", is_flag=True, help="Continue the table of another folder, which was moved or renamed.")
@click.option(
    "--max-gone",
    type=GoneLimitType(),
    default="50%",
    show_default="50% of more than 20 rows",
    help="Stop where more rows than this would be removed; 100% never stops.",
)
@click.option("--tune", is_flag=True, help="First find the fastest plan for PHOTOS on this machine; takes a minute.")
@click.option("--show-plan", is_flag=True, help="Print how many processes, threads and photos at a time, and why.")
@click.option(
    "--shard", type=ShardType(), help="Label only this share of OUT's parts: 3/16, or auto/16 from the scheduler."
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Label on the nodes of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT (extra: ray).",
)
@click.option(
    "--ray-late",
    type=Duration(1),
    default="15s",
    show_default=True,
    help="Give a range to another node, too, when its own is silent for so long.",
)
@click.option(
    "--part-rows",
    type=click.IntRange(1),
    default=20_000,
    show_default=True,
    help="Photos of a part, where OUT is a folder.",
)
@click.option("--errors-ok", is_flag=True, help="End with 0 also where some files have error rows.")
@click.option("--watch", is_flag=True, help="Then keep OUT up to date with PHOTOS until told to stop.")
@with_options(WatchTimings)
@quiet_option
@log_format_option
@click.version_option(package_name="label-dir")
def command(
    photos: Place,
    out: str,
    fresh: bool,
    adopt: bool,
    max_gone: GoneLimit,
    tune: bool,
    show_plan: bool,
    shard: Shard | None,
    ray: str | None,
    ray_late: float,
    part_rows: int,
    errors_ok: bool,
    watch: bool,
    quiet: bool,
    log_format: str,
    **parsed: object,
) -> int:
    """Label the photos below PHOTOS and write one row for each to OUT (.parquet or .csv).

    PHOTOS is a folder, or a URL of an object store: s3://, gs:// or az://BUCKET/PREFIX/. Where OUT is such a URL, or a
    folder with a slash at its end, it gets a part for each range of names, and many processes can share the work.

    OUT is brought up to date with PHOTOS: new and changed photos are labelled, rows of unchanged ones are kept, rows
    of vanished ones go. Files that cannot be labelled get a row that says why.
    """
    # Imported here, because child processes import this module again and need none of these.
    options = take_options(LabellingOptions, parsed)
    if ray and (shard or watch):
        raise click.UsageError("--ray hands out all parts itself, once: use it without --shard and --watch")
    parts = parts_place(out, is_shared=bool(shard or ray))
    table = Path(out) if parts is None else Path("part.parquet")
    if not ray and (fresh or parts is not None or not table.exists()):
        _start_fork_server_early(photos, options)
    from jobs.cli.logging_setup import log_result, log_to_stderr
    from jobs.labelling.label_folder import LabelRequest, label_dir
    from jobs.labelling.results import sentence

    log_to_stderr("label-dir", level=logging.ERROR if quiet else logging.WARNING, log_format=log_format)
    request = LabelRequest(photos, table, options, quiet, fresh, adopt, max_gone)
    if tune or show_plan:
        _tune_and_show(request, tune, show_plan)
    if show_plan:
        return 0
    if watch and parts is not None:
        raise click.UsageError("--watch keeps one table up to date; OUT must end in .parquet or .csv")
    if watch:
        from jobs.watching.watch_table import watch_table

        return watch_table(request, take_options(WatchTimings, parsed))
    if parts is None:
        summary = label_dir(request)
    else:
        from jobs.scaling.range_labeller import PartsRequest

        summary = _label_parts(PartsRequest(request, parts, part_rows), shard or Shard(), ray, ray_late)
    log_result(
        sentence(summary), labelled=summary.labelled, unchanged=summary.kept, failed=summary.failed, out=str(out)
    )
    return 3 if summary.has_failures and not errors_ok else 0


def _tune_and_show(request: LabelRequest, is_to_tune: bool, is_to_show: bool) -> None:
    """Find the fastest plan for the photos and keep it, then print the plan that a run would have."""
    from jobs.cli.standard_streams import print_text
    from jobs.labelling.show_plan import plan_lines, tune_and_keep

    if is_to_tune:
        tune_and_keep(request)
    if is_to_show:
        print_text("\n".join(plan_lines(request)))


def _label_parts(request: PartsRequest, shard: Shard, ray: str | None, ray_late_s: float) -> RunSummary:
    if ray:
        from jobs.scaling.label_on_ray import label_on_ray

        return label_on_ray(request, ray, ray_late_s)
    from jobs.scaling.label_ranges import label_ranges

    return label_ranges(request, shard)


def _start_fork_server_early(photos: Place, options: LabellingOptions) -> None:
    """Start the fork server of a first run, which has photos to decode, before this process imports the rest.

    The run starts the server where that fails here.
    """
    if options.loader is not LoaderKind.PIPES or not (isinstance(photos, StoreUrl) or photos.is_dir()):
        return
    # Copies of this process share its modules, and all need numpy.
    import numpy  # noqa: F401

    from pipeline.loading.fork_server import start_fork_server

    with contextlib.suppress(OSError):
        start_fork_server(options.loader)


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before the run handles SIGINT itself, Ctrl-C ends the process at once, without the traceback of an import.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # numpy would start threads, and a process with threads cannot fork the fork server of the decode workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-dir")


if __name__ == "__main__":
    main()
