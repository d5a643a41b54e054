"""Chains the stages for one folder and one table; the only file that knows them all."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from models.artifact import Artifact
from models.system.atomic_file import temporary_of
from pipeline.errors import InputMissingError, Interrupted, OutputError, UsageError
from pipeline.labeller import Labeller, LabellerPlan
from pipeline.records import FileRef, Row, RunSummary
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.file_lock import held
from pipeline.tables.incremental import Refresh
from pipeline.tables.label_reuse import LabelReuse
from pipeline.tables.merge import SortedTable
from pipeline.tables.part_store import PartStore, state_folder
from pipeline.tables.reader import previous_table, refuse_foreign
from pipeline.tables.writer import export

logger = logging.getLogger(__name__)

OUT_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Bring table `out` up to date with folder `photos`; `fresh` labels everything again.

    With `modified_since_us` (since 1970, UTC), only photos changed since then are in the table.
    """

    photos: Path
    out: Path
    artifact: Artifact
    plan: LabellerPlan
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    fresh: bool = False
    modified_since_us: int | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a door may follow and steer: the moment work begins, each row with the rows kept so far, a wish to stop.

    `stop_requested` returns the number of the signal that asks for the end, 0 while there is none. `time_is_up` ends
    the work too, but as planned: the table is published with what there is, and the summary says it is cut short.
    A file that is not `is_at_rest` has no row for now. `on_walked` is called when the folder was listed to its end, and
    may raise to leave the table as it was.
    """

    on_begin: Callable[[], None] = lambda: None
    on_row: Callable[[Row, int], None] = lambda row, kept: None
    stop_requested: Callable[[], int] = lambda: 0
    time_is_up: Callable[[], bool] = lambda: False
    is_at_rest: Callable[[FileRef], bool] = lambda ref: True
    on_walked: Callable[[], None] = lambda: None


def run(request: RunRequest, hooks: Hooks, labeller: Labeller | None = None) -> RunSummary:
    """Bring `request.out` up to date and say what was done; a `labeller` that runs already is used and left running.

    Raises:
        UsageError: `out` has no known ending, is no file, or holds something else.
        InputMissingError: `photos` is no folder, or cannot be listed.
        OutputError: `out` cannot be written; the old table is untouched.
        LockedError: another run writes `out`.
        Interrupted: a stop was asked for; what was labelled is kept for the next run.
        WorkerDiedError: the processes cannot be kept alive.
    """
    out = _checked_out(request.out)
    if not request.photos.is_dir():
        what = "is not a folder" if request.photos.exists() else "does not exist"
        raise InputMissingError(f"{request.photos} {what}")
    state = state_folder(out)
    with contextlib.ExitStack() as stack:
        with _output_errors(out):
            stack.enter_context(held(state / "lock", str(request.out)))
        return _Run(request, hooks, out, state, labeller).up_to_date()


class _Run:
    def __init__(self, request: RunRequest, hooks: Hooks, out: Path, state: Path, labeller: Labeller | None) -> None:
        self._running_labeller = labeller
        self._request = request
        self._hooks = hooks
        self._out = out
        self._top_k = request.plan.top_k
        self._store = PartStore(state, self._top_k)
        self._counts = WalkCounts()
        self._rules = WalkRules(
            request.include,
            request.exclude,
            request.follow_links,
            frozenset({str(out), str(state)}),
            request.modified_since_us,
        )
        self._failed: Counter[str] = Counter()
        self._labelled = 0
        self._copied = 0
        self._adopted = 0
        self._labelling_s = 0.0
        self._is_cut_short = False

    def up_to_date(self) -> RunSummary:
        began_s = time.monotonic()
        with _output_errors(self._out):
            previous = self._previous_tables()
        model_id = self._request.artifact.model_id
        refresh = Refresh(previous, model_id, self._counts.is_unreadable)
        copies = LabelReuse(previous, model_id, self._request.plan.limits, self._take_copy)
        try:
            self._label(refresh, copies)
        finally:
            # Also when a stop or a failure cuts the run short: what is labelled is kept.
            with _output_errors(self._out):
                copies.finish()
                self._store.commit()
        if stop := self._hooks.stop_requested():
            raise Interrupted(stop)
        with _output_errors(self._out):
            if self._has_changed(refresh):
                export(refresh.result(self._store.written()), self._out, self._top_k)
            self._store.discard()
        return self._summary(refresh, time.monotonic() - began_s)

    def _summary(self, refresh: Refresh, elapsed_s: float) -> RunSummary:
        return RunSummary(
            labelled=self._labelled,
            kept=refresh.kept,
            failed=self._failed.total(),
            failed_by_class=dict(self._failed.most_common()),
            skipped=self._counts.skipped,
            skipped_links=self._counts.skipped_links,
            unreadable_folders=len(self._counts.unreadable_folders),
            removed=refresh.removed,
            elapsed_s=elapsed_s,
            labelling_s=self._labelling_s,
            out=self._request.out,
            is_cut_short=self._is_cut_short,
            copied=self._copied,
            kept_failed_by_class=dict(refresh.kept_failed.most_common()),
        )

    def _previous_tables(self) -> list[SortedTable]:
        refuse_foreign(self._out)
        previous = None if self._request.fresh else previous_table(self._out, self._top_k)
        parts = self._store.adopt()
        if self._request.fresh and self._store.begin_anew():
            parts = []
        temporary_of(self._out).unlink(missing_ok=True)
        self._adopted = len(parts)
        return [*([previous] if previous else []), *parts]

    def _has_changed(self, refresh: Refresh) -> bool:
        return bool(
            self._labelled or self._failed or self._copied or refresh.removed or self._adopted or not self._out.exists()
        )

    def _label(self, refresh: Refresh, copies: LabelReuse) -> None:
        pending = refresh.pending(self._until_stopped(self._walked()), lambda: self._is_cut_short)
        pending = copies.without(filter(self._hooks.is_at_rest, pending))
        first = next(pending, None)
        if first is None:
            return
        with self._labeller() as labeller:
            labeller.warm_up()
            self._hooks.on_begin()
            began_s = time.monotonic()
            try:
                for row in labeller.rows(chain([first], pending), self._commit_if_due):
                    self._take(row)
                    self._hooks.on_row(row, refresh.kept)
            finally:
                # Before the processes end, which may take a while.
                with _output_errors(self._out):
                    self._store.commit()
                self._labelling_s = time.monotonic() - began_s

    def _labeller(self) -> contextlib.AbstractContextManager[Labeller]:
        if self._running_labeller is not None:
            return contextlib.nullcontext(self._running_labeller)
        return Labeller(self._request.artifact, self._request.plan)

    def _commit_if_due(self) -> None:
        if self._store.is_due:
            with _output_errors(self._out):
                self._store.commit()

    def _take_copy(self, row: Row) -> None:
        self._store.add(row)
        self._commit_if_due()
        self._copied += 1

    def _take(self, row: Row) -> None:
        self._store.add(row)
        self._commit_if_due()
        if row.error is None:
            self._labelled += 1
        else:
            self._failed[row.error.error_class] += 1

    def _walked(self) -> Iterator[FileRef]:
        photos = self._request.photos.resolve()
        try:
            yield from walk(photos, self._rules, self._counts)
            self._hooks.on_walked()
        except OSError as error:
            raise InputMissingError(f"{self._request.photos} cannot be listed: {error.strerror}") from error

    def _until_stopped(self, refs: Iterator[FileRef]) -> Iterator[FileRef]:
        for ref in refs:
            if self._hooks.stop_requested() or self._hooks.time_is_up():
                self._is_cut_short = True
                return
            # Among millions of unchanged files no row comes, and those that came before wait.
            self._commit_if_due()
            yield ref


def _checked_out(out: Path) -> Path:
    """Return `out` with links resolved, so that replacing it does not cut a link the user made."""
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise UsageError(f"{out} must end in .parquet or .csv")
    with _output_errors(out):
        resolved = out.resolve()
        if not resolved.parent.is_dir():
            raise OutputError(f"the folder of {out} does not exist; make it first")
    return resolved


@contextlib.contextmanager
def _output_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
