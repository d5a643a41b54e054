"""What a run is asked: which photos, which table, by which model and rules; and the calls that follow and steer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.artifact import Artifact
from pipeline.gone_guard import DEFAULT_GONE_LIMIT, GoneLimit
from pipeline.labeller import LabellerPlan
from pipeline.records import FileRef, Row
from pipeline.reviews.review_file import reviews_path
from pipeline.sources.source import NameRange, Source
from pipeline.sources.store_url import Place
from pipeline.sources.stored_photos import source_at
from pipeline.sources.walk import WalkRules
from pipeline.tables.part_store import state_folder


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Bring table `out` up to date with the photos at `photos`; `fresh` labels everything again.

    With `modified_since_us` (since 1970, UTC), only photos changed since then are in the table. `adopt` continues the
    table of another folder, which was moved or renamed. `gone_limit` bounds how many rows may be removed. `reviews` is
    the file of what persons said, where it is not the one beside `out`. With `names` the table is of the photos in a
    range of names. `is_listing_sorted` False tells of a store without an order of names, `is_readable` of a store some
    of whose objects have been read already. Lock and unfinished rows are in the folder `state`, where it is not the one
    beside `out`.
    """

    photos: Place
    out: Path
    artifact: Artifact
    plan: LabellerPlan
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    fresh: bool = False
    modified_since_us: int | None = None
    adopt: bool = False
    gone_limit: GoneLimit = DEFAULT_GONE_LIMIT
    reviews: Path | None = None
    names: NameRange | None = None
    is_listing_sorted: bool = True
    is_readable: bool = False
    state: Path | None = None

    @property
    def reviews_path(self) -> Path:
        """The file of what persons said; the run reads it where it is there."""
        return self.reviews or reviews_path(self.out)

    @property
    def walk_rules(self) -> WalkRules:
        """Which files of `photos` belong to the run: never `out` itself."""
        out = self.out.resolve()
        avoid = frozenset({str(out), str(state_folder(out))})
        return WalkRules(self.include, self.exclude, self.follow_links, avoid, self.modified_since_us)

    @property
    def source(self) -> Source:
        """The photos: how they are listed and read."""
        photos = source_at(self.photos)
        if not self.is_listing_sorted:
            photos = photos.sorted_first()
        return photos if self.names is None else photos.within(self.names)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Calls by which a command follows and steers a run.

    `on_begin` is called when the first photo is about to be labelled, `on_row` with each new row and the number of
    rows kept so far. `on_walked` is called when the folder was listed to its end, and may raise to leave the table as
    it was. `stop_requested` returns the number of the signal that asks for the end, 0 while there is none.
    `time_is_up` ends the run too, but as planned: the table is published with the rows there are, and the summary
    says that the run is cut short. A file for which `is_at_rest` is false gets no row in this run.
    """

    on_begin: Callable[[], None] = lambda: None
    on_row: Callable[[Row, int], None] = lambda row, kept: None
    stop_requested: Callable[[], int] = lambda: 0
    time_is_up: Callable[[], bool] = lambda: False
    is_at_rest: Callable[[FileRef], bool] = lambda ref: True
    on_walked: Callable[[], None] = lambda: None
