"""The door `label-report TABLE PAGE.html`: a table as a page to look at."""

from __future__ import annotations

import logging
from pathlib import Path

import click

_EPILOG = """\b
Examples:
  label-report labels.parquet report.html                     photos are looked for near the table
  label-report labels.parquet report.html --photos photos/
  label-report labels/ report.html --photos inbox/            a folder of date=... partitions

The page is one file that opens from disk without any network; originals are linked where they lie. Written again
after the table has changed, it also says what changed since the last time.

\b
Exit codes: 0 written; 2 usage, or no table of label-dir; 66 no table; 74 the page can't be written.
"""


@click.command(
    epilog=_EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "LABEL_DIR_REPORT",
        "max_content_width": 110,
    },
)
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("page", metavar="PAGE.html", type=click.Path(path_type=Path))
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where the photos lie.")
@click.option("--title", help="What the page is called.  [default: the table's name]")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.version_option(package_name="label-dir")
def command(table: Path, page: Path, photos: Path | None, title: str | None, quiet: bool) -> int:
    """Write what TABLE (.parquet, .csv, or a folder of partitions) says as a page: figures, charts, a contact sheet."""
    # Inside, because child processes import this module again and need none of it.
    from jobs.cli.logging_setup import log_to_stderr, tell
    from jobs.cli.progress import thumbnail_bar
    from jobs.report.write import write_report
    from pipeline.errors import UsageError

    log_to_stderr("label-report", level=logging.ERROR if quiet else logging.WARNING)
    if page.suffix.lower() != ".html":
        raise UsageError(f"{page} must end in .html")
    with thumbnail_bar(not quiet) as show:
        written = write_report(table, page, photos, title, show)
    if not written.has_photos and written.facts.labelled:
        logging.getLogger(__name__).warning("the photos are not near %s: no thumbnails; name them with --photos", table)
    facts = written.facts
    tell(f"{facts.photo_count} photos, {len(facts.failures)} failed, {facts.label_count} labels -> {page}")
    return 0


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-report")


if __name__ == "__main__":
    main()
