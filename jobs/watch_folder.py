"""The door `watch-folder INBOX LABELS`: photos that arrive in a folder become rows, for months."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from jobs.cli.duration_type import Duration
from jobs.cli.watch_options import take_rhythm, with_rhythm_options
from pipeline.loading.loader_kind import LOADER_NAMES

_LOADERS = click.Choice(LOADER_NAMES)
_EPILOG = """\b
Examples:
  watch-folder inbox/ labels/                     label what is there, then whatever arrives
  watch-folder inbox/ labels/ --done move:done/   and move each photo once its row is on disk
  watch-folder inbox/ labels/ --once              label what is there and end
  watch-folder status labels/                     how is the one that runs?
  watch-folder --print-unit > /etc/systemd/system/watch-folder@.service

\b
Rows appear in labels/date=YYYY-MM-DD/part-*.parquet, to be read at any time:
  duckdb -c "SELECT * FROM 'labels/*/*.parquet'"

\b
Signals: SIGTERM and Ctrl-C finish what is in flight and end with 0; SIGHUP loads the model anew.
Exit codes: 0 ended as asked; 2 usage; 3 with --once, some files have error rows; 66 inbox missing;
74 labels can't be written; 75 another watch-folder writes there.

Every option can be set by an environment variable: LABEL_DIR_FLUSH=5s is --flush 5s.
"""
_CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "LABEL_DIR",
    "max_content_width": 110,
}


def _print_unit(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from importlib import resources

        click.echo(resources.files("jobs").joinpath("units", "watch-folder@.service").read_text("utf-8"), nl=False)
        context.exit()


@click.command(epilog=_EPILOG, context_settings=_CONTEXT)
@click.argument("inbox", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "-m", "--model", default="efficientnet_lite0", show_default=True, help="A model's name, or an .onnx file."
)
@with_rhythm_options
@click.option("--once", is_flag=True, help="Label what is there, then end.")
@click.option("--done", default="keep", show_default=True, metavar="keep|delete|move:DIR", help="Labelled photos.")
@click.option("--format", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True, help="Of parts.")
@click.option("--part-rows", type=click.IntRange(1), default=50_000, show_default=True, help="Rows of a full part.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve /metrics (Prometheus) and /healthz there.")
@click.option("--status", type=click.Path(path_type=Path), metavar="FILE", help="Keep the figures as JSON there.")
@click.option("-b", "--batch-size", type=click.IntRange(1, 1024), help="Photos per batch.  [default: 16]")
@click.option("-j", "--workers", type=click.IntRange(1, 1024), help="Decode processes.  [default: one per core]")
@click.option("--pool", type=click.IntRange(1, 1024), help="Classifier processes.  [default: one per core]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads per classifier process.  [default: 1]")
@click.option("--topk", type=click.IntRange(1, 1000), default=3, show_default=True, help="Labels per photo.")
@click.option("--engine", default="onnxruntime", show_default=True, help="What runs the model.")
@click.option("--loader", type=_LOADERS, default="pipes", show_default=True, help="Whose way to feed decode processes.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Only files that match, whatever their ending.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No files and folders that match.")
@click.option("--timeout", type=Duration(1), default="60s", show_default=True, help="What one photo may take.")
@click.option("--max-pixels", type=click.IntRange(1), default=200_000_000, show_default=True, help="Largest photo.")
@click.option("--max-bytes", type=click.IntRange(1), default=1 << 30, show_default=True, help="Largest file.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of stderr.")
@click.option(
    "--print-unit", is_flag=True, is_eager=True, expose_value=False, callback=_print_unit, help="For systemd."
)
@click.version_option(package_name="label-dir")
def command(
    inbox: Path,
    labels: Path,
    once: bool,
    done: str,
    part_rows: int,
    metrics: str | None,
    status: Path | None,
    quiet: bool,
    log_format: str,
    **options: object,
) -> int:
    """Label the photos in folder INBOX, those that are there and those that arrive, into dated parts below LABELS.

    A photo is one name with one content: it gets one row, also after a crash. A photo that is still being written is
    left alone until it rests. `watch-folder status LABELS` tells how a running one is.
    """
    # Inside, because child processes import this module again and need none of it.
    from jobs.cli.logging_setup import log_to_stderr
    from jobs.labelling.label_folder import LabelDirOptions
    from jobs.watching.build_daemon import WatchOptions, watch_folder

    log_to_stderr("watch-folder", level=logging.ERROR if quiet else logging.INFO, log_format=log_format)
    part_format, rhythm = str(options.pop("format")), take_rhythm(options)
    labelling = LabelDirOptions(photos=inbox, out=labels, quiet=quiet, follow_links=False, fresh=False, **options)  # type: ignore[arg-type]  # click gives what the options above say
    return watch_folder(
        WatchOptions(
            labelling=labelling,
            rhythm=rhythm,
            once=once,
            done=done,
            part_format=part_format,
            part_rows=part_rows,
            metrics=metrics,
            status=status,
        )
    )


@click.command(context_settings=_CONTEXT)
@click.argument("labels", type=click.Path(path_type=Path))
def status_command(labels: Path) -> int:
    """Tell how the watch-folder that writes LABELS is; exit code 0 where it runs and is well, 1 where not."""
    from jobs.watching.watch_status import show_status

    return show_status(labels)


def main() -> None:
    """Run the command line."""
    from jobs.cli.signals import end_at_once_when_told

    end_at_once_when_told()
    # Without the threads that numpy starts, this process can fork the one that decodes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jobs.cli.entry_point import end_with_exit_code

    if sys.argv[1:2] == ["status"]:
        del sys.argv[1]
        end_with_exit_code(status_command, "watch-folder status")
    end_with_exit_code(command, "watch-folder")


if __name__ == "__main__":
    main()
