"""The command `label-serve`: a page on which photos are dropped, and an HTTP interface that answers with rows."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from jobs.cli.options import (
    LabellingOptions,
    context_settings,
    log_format_option,
    print_unit_option,
    quiet_option,
    take_options,
    with_options,
)
from jobs.serving.serve_options import ServeOptions

_EPILOG = """\b
Examples:
  label-serve                                    then open http://127.0.0.1:8080/ and drop photos
  label-serve -m shelf -m efficientnet_lite0     these models, the first by default
  curl -F photo=@cat.jpg http://127.0.0.1:8080/v1/label
  label-serve --review labels.parquet --photos photos/    the desk, on which persons correct labels
  label-serve --host 0.0.0.0 --token-file token  for other computers too
  label-serve --print-unit > /etc/systemd/system/label-serve.service

\b
Signals: SIGTERM and Ctrl-C finish the requests at work and end with 0; SIGHUP loads the models again.
Exit codes: 0 ended as requested; 2 usage; 66 model or token file missing; 74 the address can't be used.

Every option can be set by an environment variable: LABEL_DIR_PORT=80 is --port 80.
"""
_CONTEXT = context_settings("LABEL_DIR")
_PATH = click.Path(path_type=Path)
_NOT_HERE = ("model", "include", "exclude", "follow_links", "loader", "max_bytes")


@click.command(epilog=_EPILOG, context_settings=_CONTEXT)
@click.option(
    "-m", "--model", "models", multiple=True, help="A model's name or .onnx file, the default first.  [default: all]"
)
@with_options(ServeOptions)
@with_options(LabellingOptions, *_NOT_HERE)
@click.option("--review", metavar="TABLE", type=_PATH, help="Review the labels of this table, at /desk/.")
@click.option("--photos", metavar="DIR", type=_PATH, help="With --review: the folder of the table's photos.")
@click.option("--since", metavar="TABLE", type=_PATH, help="With --review: an older table, to see what has changed.")
@click.option("--reviewer", metavar="NAME", help="With --review: who reviews.  [default: your user name]")
@quiet_option
@log_format_option
@print_unit_option("label-serve.service")
@click.version_option(package_name="label-dir")
def command(
    models: tuple[str, ...],
    quiet: bool,
    log_format: str,
    review: Path | None,
    photos: Path | None,
    since: Path | None,
    reviewer: str | None,
    **parsed: Any,
) -> int:
    """Serve a page on which photos are dropped and get their labels, and an interface for other programs.

    Photos are kept in memory alone, and forgotten with their answer. Prints the address of the page.
    """
    # Imported here, because child processes import this module again and need none of these.
    from jobs.cli.logging_setup import log_to_stderr
    from jobs.serving.build_server import ServeRequest, serve
    from jobs.serving.desk.build_desk import DeskRequest, serve_desk
    from pipeline.errors import UsageError

    log_to_stderr("label-serve", level=logging.ERROR if quiet else logging.INFO, log_format=log_format)
    options = take_options(ServeOptions, parsed)
    labelling = take_options(LabellingOptions, parsed)
    request = ServeRequest(options, labelling, models, quiet)
    if review is None and not (photos or since or reviewer):
        return serve(request)
    if review is None or photos is None:
        raise UsageError("the desk needs --review TABLE and --photos DIR, the folder of the table's photos")
    return serve_desk(request, DeskRequest(review, photos, since, reviewer))


def main() -> None:
    """Run the command line."""
    from jobs.cli.signals import end_at_once_by_signal

    end_at_once_by_signal()
    # numpy would start threads, and a process with threads cannot fork the fork server of the decode workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-serve")


if __name__ == "__main__":
    main()
