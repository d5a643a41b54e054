"""The command `label-report TABLE PAGE.html`: a table as a page to look at."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import click

from jobs.cli.options import context_settings, quiet_option

_EPILOG = """\b
Examples:
  label-report labels.parquet report.html                     looks for the photos near the table
  label-report labels.parquet report.html --photos photos/
  label-report labels/ report.html --photos inbox/            a folder of date=... partitions

The page is one file that opens from disk without a network; it links to the original photos. When a page is written
again after its table has changed, it also shows what changed.

\b
Exit codes: 0 written; 2 usage, or not a table of label-dir; 66 no such table; 74 the page can't be written.
"""


@click.command(epilog=_EPILOG, context_settings=context_settings("LABEL_DIR_REPORT"))
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("page", metavar="PAGE.html", type=click.Path(path_type=Path))
@click.option(
    "--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="The folder of the photos."
)
@click.option("--title", help="The title of the page.  [default: the table's name]")
@quiet_option
@click.version_option(package_name="label-dir")
def command(table: Path, page: Path, photos: Path | None, title: str | None, quiet: bool) -> int:
    """Write TABLE (.parquet, .csv, or a folder of partitions) as a page: figures, charts, a contact sheet."""
    # Imported here, because child processes import this module again and need none of these.
    from jobs.cli.logging_setup import log_result, log_to_stderr
    from jobs.cli.progress import ProgressBar
    from jobs.report.write import write_report
    from pipeline.errors import UsageError

    log_to_stderr("label-report", level=logging.ERROR if quiet else logging.WARNING)
    if page.suffix.lower() != ".html":
        raise UsageError(f"{page} must end in .html")
    with contextlib.closing(ProgressBar("thumbnails", not quiet)) as bar:
        written = write_report(table, page, photos, title, bar.show)
    if not written.has_photos and written.facts.labelled:
        logging.getLogger(__name__).warning("the photos are not near %s: no thumbnails; name them with --photos", table)
    if written.changed:
        logging.getLogger(__name__).warning(
            "%d files are no longer the photos of their rows: not shown", written.changed
        )
    facts = written.facts
    log_result(f"{facts.photo_count} photos, {len(facts.failures)} failed, {facts.label_count} labels -> {page}")
    return 0


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-report")


if __name__ == "__main__":
    main()
