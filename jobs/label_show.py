"""The command `label-show TABLE`: rows and counts of a table, at a terminal."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.cli.number_type import NumberBetween
from jobs.cli.options import context_settings

_EPILOG = """\b
Examples:
  label-show labels.parquet                        the first rows
  label-show labels.parquet --label cat            photos whose first label has the word "cat"
  label-show labels.parquet --max-prob .5 --sort prob    least certain first
  label-show labels.parquet --errors               files that could not be labelled, and why
  label-show labels.parquet --reviewed             what persons said, beside the labels
  label-show labels.parquet --count                photos by label; with --errors, files by class of error
  label-show labels.parquet --limit 0 | grep tabby all rows

\b
Exit codes: 0 shown, also when no row matches; 2 usage, or not a table of label-dir; 66 no such table.
"""


@click.command(epilog=_EPILOG, context_settings=context_settings("LABEL_DIR_SHOW"))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--label", metavar="WORDS", help="Only photos whose first label has these words.")
@click.option("--text", metavar="TEXT", help="Only files with this in their name or first label.")
@click.option("--min-prob", type=NumberBetween(0, 1), help="Only photos at least this certain.")
@click.option("--max-prob", type=NumberBetween(0, 1), help="Only photos at most this certain.")
@click.option("--errors", is_flag=True, help="Only files that could not be labelled.")
@click.option("--unsure", is_flag=True, help="Only photos whose label is below the threshold.")
@click.option("--reviewed", is_flag=True, help="Only photos of which a person said what they are, and what.")
@click.option("--count", is_flag=True, help="Count by label, or with --errors by class of error.")
@click.option(
    "--sort", type=click.Choice(["name", "prob"]), default="name", show_default=True, help="prob: least first."
)
@click.option("-n", "--limit", type=click.IntRange(0), default=50, show_default=True, help="Rows shown; 0 for all.")
@click.version_option(package_name="label-dir")
def command(table: Path, reviewed: bool, **query: object) -> int:
    """Show rows of TABLE: a .parquet or .csv file of label-dir, or a folder of date=... partitions."""
    from jobs.cli.standard_streams import print_text
    from jobs.report.table_query import Query, show
    from pipeline.errors import UsageError
    from pipeline.reviews.reviewed_labels import read_reviewed_rows
    from pipeline.tables.reader import read_rows

    if reviewed and query["errors"]:
        raise UsageError("--reviewed and --errors: only photos with a label are reviewed; give one of the two")
    rows = read_reviewed_rows(table) if reviewed else read_rows(table)
    lines, left_out = show(rows, Query(reviewed=reviewed, **query))  # type: ignore[arg-type]  # the options above
    for line in lines:
        print_text(line)
    if left_out:
        print_text(f"... and {left_out} more (--limit 0 shows all)", to_stderr=True)
    return 0


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-show")


if __name__ == "__main__":
    main()
