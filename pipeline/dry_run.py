"""What a run would do, found from names, sizes and times alone."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InputMissingError
from pipeline.gone_guard import refuse_if_gone
from pipeline.run_request import RunRequest
from pipeline.sources.arguments import refuse_missing_photos
from pipeline.sources.source import Source
from pipeline.sources.store_listing import UnsortedListingError
from pipeline.sources.walk import WalkCounts
from pipeline.table_guard import refuse_unusable_table
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
        InputMissingError: `photos` is no folder and no URL with objects, or cannot be listed.
        UsageError: `out` is not a table of label-dir, or is of another folder.
        OutputError: `out` cannot be read.
        PhotosGoneError: a run would remove more rows than it may, even if all new photos are renamed ones.
    """
    refuse_missing_photos(request.photos)
    refuse_unusable_table(request.photos, request.out, request.plan.top_k, request.fresh, request.adopt)
    try:
        return _preview(request, request.source)
    except UnsortedListingError:
        return _preview(request, request.source.sorted_first())
    except OSError as error:
        raise InputMissingError(f"{request.photos} cannot be listed: {error.strerror}") from error


def _preview(request: RunRequest, photos: Source) -> DryRun:
    previous = None if request.fresh else previous_table(request.out, request.plan.top_k)
    counts = WalkCounts()
    tables, model_id = [previous] if previous else [], request.artifact.model_id
    since_us = request.modified_since_us
    update = IncrementalUpdate(tables, model_id, counts.is_unreadable, since_us, photos.is_remote)
    pending = sum(1 for _ in update.pending(photos.list(request.walk_rules, counts)))
    gone = max(0, update.removed - update.expired - pending)
    total = update.kept + update.removed + update.replaced - update.expired
    refuse_if_gone(request.gone_limit, gone, total, request.photos, request.out)
    return DryRun(pending, update.kept, update.removed, counts.skipped)
