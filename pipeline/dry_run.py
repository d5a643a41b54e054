"""What a run would do, found from names, sizes and times alone."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InputMissingError
from pipeline.run import RunRequest
from pipeline.sources.walk import WalkCounts
from pipeline.tables.incremental import IncrementalUpdate
from pipeline.tables.reader import previous_table


@dataclass(frozen=True, slots=True)
class DryRun:
    """How many photos a run would label, rows it would keep and remove, and files it would skip."""

    pending: int
    kept: int
    removed: int
    skipped: int


def preview(request: RunRequest) -> DryRun:
    """Return the counts of what `request` would do; nothing is written.

    Raises:
        InputMissingError: `photos` is no folder, or cannot be listed.
        UsageError: `out` is not a table of label-dir.
        OutputError: `out` cannot be read.
    """
    if not request.photos.is_dir():
        raise InputMissingError(f"{request.photos} is not a folder")
    previous = None if request.fresh else previous_table(request.out, request.plan.top_k)
    update = IncrementalUpdate([previous] if previous else [], request.artifact.model_id)
    counts = WalkCounts()
    try:
        pending = sum(1 for _ in update.pending(request.source.list(request.walk_rules, counts)))
    except OSError as error:
        raise InputMissingError(f"{request.photos} cannot be listed: {error.strerror}") from error
    return DryRun(pending, update.kept, update.removed, counts.skipped)
