"""The command `label-merge PARTS... OUT`: the parts of many processes, or several tables, become one table."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from jobs.cli.options import context_settings, quiet_option
from jobs.cli.place_type import PlaceType
from pipeline.sources.store_url import Place

logger = logging.getLogger(__name__)

_EPILOG = """\b
Examples:
  label-merge s3://bucket/labels/ labels.parquet      the parts of label-dir --shard as one table
  label-merge labels/ all/ --files 100                as 100 files of about equal size, in order
  label-merge 2023.parquet 2024.parquet all.parquet   tables of several runs

\b
Exit codes: 0 written; 2 usage, or not a table of label-dir; 66 a table or part is missing or damaged;
69 most rows of OUT would go (see --fresh); 74 OUT can't be written; 75 another process writes OUT.
"""


@click.command(epilog=_EPILOG, context_settings=context_settings("LABEL_DIR_MERGE"))
@click.argument("tables", metavar="PARTS...", nargs=-1, required=True, type=PlaceType())
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--files", type=click.IntRange(1, 99_999), help="Write so many files into folder OUT.")
@click.option("--fresh", is_flag=True, help="Replace OUT also where it is of other photos, or has many more rows.")
@quiet_option
@click.version_option(package_name="label-dir")
def command(tables: tuple[Place, ...], out: Path, files: int | None, fresh: bool, quiet: bool) -> int:
    """Write the rows of all PARTS, sorted by name, to the table OUT (.parquet or .csv).

    PARTS is a place of parts (a URL or a folder), or a .parquet table. Of rows with one name the last named is taken.
    """
    from jobs.cli.logging_setup import log_result, log_to_stderr
    from jobs.scaling.merging.merge_tables import merge_tables, refuse_url
    from models.system.outside_text import terminal_text
    from pipeline.sources.arguments import checked_out, refuse_missing_client_of
    from pipeline.tables.reader import table_format

    log_to_stderr("label-merge", level=logging.ERROR if quiet else logging.WARNING)
    for table in tables:
        refuse_missing_client_of(table)
    refuse_url(out)
    if files is None:
        out = checked_out(out)
        # A file that is no table of label-dir is not replaced.
        table_format(out)
    merged = merge_tables(tables, out, files, fresh)
    if len(merged.models) > 1:
        logger.warning("the rows are of %d models: %s", len(merged.models), terminal_text(", ".join(merged.models)))
    log_result(f"{merged.rows} rows in {merged.files} {'files' if files else 'table'} -> {terminal_text(str(out))}")
    return 0


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-merge")


if __name__ == "__main__":
    main()
