"""A whole run, from one folder to one table: the only file that knows all stages."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.errors import InputMissingError, Interrupted, output_errors
from pipeline.gone_guard import refuse_if_gone
from pipeline.labeller import Labeller
from pipeline.loading.fork_server import start_fork_server_early
from pipeline.records import FileRef, Row, RunSummary
from pipeline.reviews.review_file import reading_reviews
from pipeline.reviews.reviewed_labels import reviewed_label_column
from pipeline.run_request import Hooks, RunRequest
from pipeline.sources.arguments import checked_out, refuse_missing_photos
from pipeline.sources.first_objects_guard import FirstObjectsGuard
from pipeline.sources.source import Source
from pipeline.sources.store_listing import UnsortedListingError
from pipeline.sources.walk import WalkCounts
from pipeline.system.file_lock import held_state
from pipeline.table_guard import refuse_unusable_table
from pipeline.tables.arrow import pa
from pipeline.tables.derived_column import DerivedColumn, is_any_outdated
from pipeline.tables.incremental import IncrementalUpdate
from pipeline.tables.label_reuse import LabelReuse
from pipeline.tables.merge import SortedTable
from pipeline.tables.part_store import PartStore, state_of
from pipeline.tables.reader import rows_in, sorted_table, table_format
from pipeline.tables.schema import ETAG
from pipeline.tables.source import TableSource, recorded_source, refuse_another_folder
from pipeline.tables.writer import export

logger = logging.getLogger(__name__)


def run(request: RunRequest, hooks: Hooks, labeller: Labeller | None = None) -> RunSummary:
    """Bring `request.out` up to date and return the counts; a `labeller` that runs already is used and left running.

    Raises:
        UsageError: `out` has no known ending, is no file, or holds something else.
        InputMissingError: `photos` is no folder, or cannot be listed; the reviews are damaged.
        PhotosGoneError: more rows would be removed than `gone_limit` allows; the old table is untouched.
        OutputError: `out` cannot be written; the old table is untouched.
        LockedError: another run writes `out`.
        Interrupted: a stop was asked for; what was labelled is kept for the next run.
        WorkerDiedError: the processes cannot be kept alive.
    """
    out = checked_out(request.out)
    refuse_missing_photos(request.photos)
    with contextlib.ExitStack() as stack:
        with output_errors(out):
            beside = state_of(out)
            state_of_run = replace(beside, path=request.state or beside.path)
            state = stack.enter_context(held_state(state_of_run, str(request.out)))
        source = refuse_unusable_table(request.photos, request.out, request.plan.top_k, request.fresh, request.adopt)
        # Reviews that cannot be read are found before hours of labelling, not after.
        with reading_reviews(request.reviews_path):
            pass
        photos = request.source
        if photos.is_remote and labeller is None:
            start_fork_server_early(request.plan.loader.kind)

        def run_of(listed: Source) -> _Run:
            store = PartStore(state, request.plan.top_k, source, listed.is_remote)
            return _Run(request, hooks, out, store, source, listed, labeller)

        try:
            return run_of(photos).up_to_date()
        except UnsortedListingError:
            # The rows of the photos before that are durable parts, as after an interruption, and hold.
            logger.info("%s does not list keys by name; the whole listing is sorted first", request.photos)
            return run_of(photos.sorted_first()).up_to_date()


class _Run:
    def __init__(
        self,
        request: RunRequest,
        hooks: Hooks,
        out: Path,
        store: PartStore,
        source: TableSource,
        photos: Source,
        labeller: Labeller | None,
    ) -> None:
        self._request = request
        self._hooks = hooks
        self._out = out
        self._running_labeller = labeller
        self._top_k = request.plan.top_k
        self._source = source
        self._photos = photos
        self._guard = FirstObjectsGuard(request.photos) if photos.is_remote and not request.is_readable else None
        self._store = store
        self._counts = WalkCounts()
        self._extra_columns: Sequence[pa.Field[Any]] = ()
        self._labelled = 0
        self._unsure = 0
        self._reused = 0
        self._failed: Counter[str] = Counter()
        self._labelling_s = 0.0
        self._is_cut_short = False

    def up_to_date(self) -> RunSummary:
        began_s = time.monotonic()
        with output_errors(self._out):
            table, parts = self._previous_tables()
        previous, model_id = [*table, *parts], self._request.artifact.model_id
        since_us = self._request.modified_since_us
        update = IncrementalUpdate(previous, model_id, self._counts.is_unreadable, since_us, self._photos.is_remote)
        # To find copies by their bytes, objects would be read twice.
        known = [] if self._photos.is_remote else previous
        reuse = LabelReuse(known, model_id, self._request.plan.limits, self._take_reused)
        try:
            self._label(update, reuse)
        finally:
            # Also after a stop or a failure: the rows there are make the next run shorter.
            with output_errors(self._out):
                reuse.flush()
                self._store.commit()
        if stop := self._hooks.stop_requested():
            raise Interrupted(stop)
        self._refuse_if_gone(update)
        has_changed = self._labelled or self._reused or self._failed or update.removed or parts or self._request.fresh
        derived = self._derived_columns()
        has_new_reviews = bool(table) and is_any_outdated(self._out, derived)
        with output_errors(self._out):
            is_adopted = self._request.adopt and recorded_source(self._out) != self._source
            if has_changed or has_new_reviews or is_adopted or not self._out.exists():
                rows = update.result(self._store.committed())
                export(rows, self._out, self._top_k, self._source, self._extra_columns, derived)
            self._store.discard()
        return replace(self._summary(update, time.monotonic() - began_s), has_new_reviews=has_new_reviews)

    def _derived_columns(self) -> list[DerivedColumn]:
        column = reviewed_label_column(self._request.reviews_path)
        return [] if column is None else [column]

    def _summary(self, update: IncrementalUpdate, elapsed_s: float) -> RunSummary:
        return RunSummary(
            labelled=self._labelled,
            kept=update.kept,
            failed=self._failed.total(),
            failed_by_class=dict(self._failed.most_common()),
            skipped=self._counts.skipped,
            skipped_links=self._counts.skipped_links,
            unreadable_folders=len(self._counts.unreadable_folders),
            removed=update.removed,
            elapsed_s=elapsed_s,
            labelling_s=self._labelling_s,
            out=self._request.out,
            is_cut_short=self._is_cut_short,
            copied=self._reused,
            unsure=self._unsure,
            kept_failed_by_class=dict(update.kept_failed.most_common()),
            unread_kinds=dict(self._counts.unread_kinds.most_common()),
        )

    def _previous_tables(self) -> tuple[list[SortedTable], list[SortedTable]]:
        """Return the old table, if there is one to bring up to date, and the parts of an interrupted run."""
        found = None if self._request.fresh else table_format(self._out)
        self._extra_columns = found.extra if found else ()
        if self._photos.is_remote:
            self._extra_columns = [*(field for field in self._extra_columns if field.name != ETAG.name), ETAG]
        parts = self._store.recover()
        if not (self._request.fresh or self._request.adopt):
            refuse_another_folder(self._out, self._store.recovered_source, self._source)
        if self._request.fresh and self._store.start_fresh():
            parts = []
        return [sorted_table(self._out, found)] if found else [], parts

    def _refuse_if_gone(self, update: IncrementalUpdate) -> None:
        """Stop before the table is replaced where its photos seem to be away; renamed photos are not gone."""
        gone = max(0, update.removed - update.expired - self._reused)
        total = update.kept + update.removed + update.replaced - update.expired
        if self._request.fresh and not (self._labelled or self._failed or self._reused or update.kept):
            gone = total = rows_in(self._out)
        if not self._is_cut_short:
            refuse_if_gone(self._request.gone_limit, gone, total, self._request.photos, self._request.out)

    def _label(self, update: IncrementalUpdate, reuse: LabelReuse) -> None:
        changed = update.pending(self._until_stopped(self._walked()), lambda: self._is_cut_short)
        pending = reuse.unknown(filter(self._hooks.is_at_rest, changed))
        first = next(pending, None)
        if first is None:
            return
        with self._labeller() as labeller:
            self._hooks.on_begin()
            began_s = time.monotonic()
            try:
                for row in labeller.rows(chain([first], pending), self._commit_if_due):
                    self._take(row)
                    self._hooks.on_row(row, update.kept)
            finally:
                # Ending the processes may take a while, in which a kill would cost these rows.
                with output_errors(self._out):
                    self._store.commit()
                self._labelling_s = time.monotonic() - began_s

    def _labeller(self) -> contextlib.AbstractContextManager[Labeller]:
        if self._running_labeller is not None:
            return contextlib.nullcontext(self._running_labeller)
        return Labeller(self._request.artifact, self._request.plan, self._photos)

    def _commit_if_due(self) -> None:
        if self._store.is_due:
            with output_errors(self._out):
                self._store.commit()

    def _take_reused(self, row: Row) -> None:
        self._store.add(row)
        self._commit_if_due()
        self._reused += 1

    def _take(self, row: Row) -> None:
        if self._guard is not None and self._guard.refuses(row.error):
            # Nothing in these rows is worth a part, which would bind OUT to a URL that may be mistyped.
            self._store.drop()
            raise self._guard.exception
        self._store.add(row)
        self._commit_if_due()
        if row.error is None:
            self._labelled += 1
            self._unsure += row.is_unsure
        else:
            self._failed[row.error.error_class] += 1

    def _walked(self) -> Iterator[FileRef]:
        try:
            yield from self._photos.list(self._request.walk_rules, self._counts)
            self._hooks.on_walked()
        except OSError as error:
            raise InputMissingError(f"{self._request.photos} cannot be listed: {error.strerror}") from error

    def _until_stopped(self, refs: Iterator[FileRef]) -> Iterator[FileRef]:
        for ref in refs:
            if self._hooks.stop_requested() or self._hooks.time_is_up():
                self._is_cut_short = True
                return
            # While millions of unchanged files are passed over, no new row comes to commit the rows before.
            self._commit_if_due()
            yield ref
