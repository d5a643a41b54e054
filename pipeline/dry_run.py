"""What a run would do, found from names, sizes and times alone."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InputMissingError
from pipeline.run import RunRequest, refuse_unusable_table
from pipeline.sources.walk import WalkCounts, walk
from pipeline.tables.gone_guard import refuse_if_gone
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
        UsageError: `out` is not a table of label-dir, or is of another folder.
        OutputError: `out` cannot be read.
        PhotosGoneError: a run would remove more rows than it may, even if all new photos are renamed ones.
    """
    if not request.photos.is_dir():
        raise InputMissingError(f"{request.photos} is not a folder")
    refuse_unusable_table(request.photos, request.out, request.plan.top_k, request.fresh, request.adopt)
    previous = None if request.fresh else previous_table(request.out, request.plan.top_k)
    counts = WalkCounts()
    tables, model_id = [previous] if previous else [], request.artifact.model_id
    update = IncrementalUpdate(tables, model_id, counts.is_unreadable, request.modified_since_us)
    try:
        pending = sum(1 for _ in update.pending(walk(request.photos.resolve(), request.walk_rules, counts)))
    except OSError as error:
        raise InputMissingError(f"{request.photos} cannot be listed: {error.strerror}") from error
    gone = max(0, update.removed - update.expired - pending)
    total = update.kept + update.removed + update.replaced - update.expired
    refuse_if_gone(request.gone_limit, gone, total, request.photos, request.out)
    return DryRun(pending, update.kept, update.removed, counts.skipped)
