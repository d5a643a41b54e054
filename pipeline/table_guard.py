"""Stops a run into a table that is not ours, is of another folder, or has another number of labels."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UsageError, output_errors
from pipeline.sources.store_url import Place
from pipeline.tables.reader import another_top_k, table_format
from pipeline.tables.source import TableSource, recorded_source, refuse_another_folder, source_of


def refuse_unusable_table(photos: Place, out: Path, top_k: int, fresh: bool, adopt: bool) -> TableSource:
    """Check that a run of `photos` may bring the table `out` up to date; return the source that the table will record.

    Raises:
        UsageError: `out` is no table of label-dir, is of another folder, or has another number of labels.
        OutputError: `out` cannot be read.
    """
    source = source_of(photos, out)
    found = table_format(out)
    if found is None:
        return source
    if not fresh and found.top_k != top_k:
        raise UsageError(another_top_k(out, found.top_k, top_k))
    with output_errors(out):
        recorded = recorded_source(out)
    if recorded is not None and recorded.is_same_folder(source):
        # A copy of table and photos keeps its bytes.
        return recorded
    if not (fresh or adopt):
        refuse_another_folder(out, recorded, source)
    return source
