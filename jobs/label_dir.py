"""The door `label-dir PHOTOS OUT`: a folder of photos becomes a table."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import click

from jobs.cli.duration_type import Duration
from jobs.cli.watch_options import take_rhythm, with_rhythm_options
from pipeline.loading.loader_kind import LOADER_NAMES

_LOADERS = click.Choice(LOADER_NAMES)
_EPILOG = """\b
Examples:
  label-dir photos/ labels.parquet          label every photo below photos/
  label-dir photos/ labels.csv              the same as CSV
  label-dir photos/ labels.parquet          again: only new and changed photos are opened
  label-dir -m resnet18 photos/ out.csv     another model (label-models list)
  label-dir --exclude 'thumbs/*' photos/ labels.parquet
  label-dir --tune photos/ labels.parquet   find the fastest plan for this machine first, once
  label-dir --watch photos/ labels.parquet  and go on: OUT follows whatever happens in photos/

\b
Exit codes: 0 all labelled; 2 usage; 3 finished, some files have error rows; 66 input missing;
74 output can't be written; 75 another run holds the lock; 130/143 interrupted, run it again to go on.

See the table: label-show OUT at a terminal, label-report OUT PAGE.html in a browser. Every night: label-job.

Every option can be set by an environment variable: LABEL_DIR_BATCH_SIZE=32 is --batch-size 32.
"""


@click.command(
    epilog=_EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "LABEL_DIR",
        "max_content_width": 110,
    },
)
@click.argument("photos", type=click.Path(readable=False, path_type=Path))
@click.argument("out", type=click.Path(readable=False, path_type=Path))
@click.option(
    "-m", "--model", default="efficientnet_lite0", show_default=True, help="A model's name, or an .onnx file."
)
@click.option("-b", "--batch-size", type=click.IntRange(1, 1024), help="Photos per batch.  [default: 16]")
@click.option("-j", "--workers", type=click.IntRange(1, 1024), help="Decode processes.  [default: one per core]")
@click.option("--pool", type=click.IntRange(1, 1024), help="Classifier processes.  [default: one per core]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads per classifier process.  [default: 1]")
@click.option("--topk", type=click.IntRange(1, 1000), default=3, show_default=True, help="Labels per photo.")
@click.option("--engine", default="onnxruntime", show_default=True, help="What runs the model.")
@click.option("--loader", type=_LOADERS, default="pipes", show_default=True, help="Whose way to feed decode processes.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Only files that match, whatever their ending.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No files and folders that match.")
@click.option("--follow-links", is_flag=True, help="Follow symbolic links; without it they are skipped.")
@click.option("--fresh", is_flag=True, help="Label everything again, also what has not changed.")
@click.option("--timeout", type=Duration(1), default="60s", show_default=True, help="What one photo may take.")
@click.option("--max-pixels", type=click.IntRange(1), default=200_000_000, show_default=True, help="Largest photo.")
@click.option("--max-bytes", type=click.IntRange(1), default=1 << 30, show_default=True, help="Largest file.")
@click.option("--tune", is_flag=True, help="First find, in a minute, the fastest plan for PHOTOS here, and keep it.")
@click.option("--show-plan", is_flag=True, help="Print how many processes, threads and photos at a time, and why.")
@click.option("--watch", is_flag=True, help="Then go on, and keep OUT the truth about PHOTOS until told to stop.")
@with_rhythm_options
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of stderr.")
@click.version_option(package_name="label-dir")
def command(
    photos: Path,
    out: Path,
    model: str,
    quiet: bool,
    log_format: str,
    tune: bool,
    show_plan: bool,
    watch: bool,
    **options: object,
) -> int:
    """Label the photos below folder PHOTOS and write one row for each to OUT (.parquet or .csv).

    OUT is brought up to date with PHOTOS: new and changed photos are labelled, rows of unchanged ones are kept, rows
    of vanished ones go. Files that cannot be labelled get a row that says why.
    """
    # Inside, because child processes import this module again and need none of it.
    from jobs.cli.logging_setup import log_to_stderr, tell
    from jobs.labelling.label_folder import LabelDirOptions, label_dir
    from jobs.labelling.results import sentence

    log_to_stderr("label-dir", level=logging.ERROR if quiet else logging.WARNING, log_format=log_format)
    rhythm = take_rhythm(options)
    asked = LabelDirOptions(photos=photos, out=out, model=model, quiet=quiet, **options)  # type: ignore[arg-type]  # click gives what the options above say
    if tune or show_plan:
        from jobs.labelling.show_plan import plan_lines, tune_and_keep

        if tune:
            tune_and_keep(asked)
        if show_plan:
            click.echo("\n".join(plan_lines(asked)))
            return 0
    if watch:
        from jobs.watching.watch_table import watch_table

        return watch_table(asked, rhythm)
    summary = label_dir(asked)
    tell(sentence(summary), labelled=summary.labelled, unchanged=summary.kept, failed=summary.failed, out=str(out))
    return 3 if summary.has_failures else 0


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the run listens to it itself, Ctrl-C ends the process without a word, even in the middle of an import.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Without the threads that numpy starts, this process can fork the one that decodes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-dir")


if __name__ == "__main__":
    main()
