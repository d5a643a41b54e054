"""A table and the folder of its photos -> the desk: its page, its pictures and its reviews, closed with the server."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import getpass
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.labelling.label_folder import artifact_of
from jobs.serving.build_server import ServeRequest, serve
from models.spec import DEFAULT_MODEL
from pipeline.errors import InputMissingError, UsageError
from pipeline.reviews.decisions import LONGEST_LABEL, is_label
from pipeline.reviews.review_file import reading_reviews, reviews_path, told
from pipeline.reviews.review_store import ReviewStore
from pipeline.sources.arguments import refuse_missing_photos

if TYPE_CHECKING:
    from jobs.serving.app import ServerPart

PAGE = "/desk/"
_SCRIPTS = (
    "desk.js",
    "queue.js",
    "reviews.js",
    "label_choice.js",
    "one_photo.js",
    "many_photos.js",
    "newer_table.js",
    "progress.js",
)


@dataclass(frozen=True, slots=True)
class DeskRequest:
    """Review the photos of `table` below the folder `photos`; `since` is an older table to compare the labels with.

    Reviews are those of `reviewer`, None for the user who runs the server, where the browser names nobody.
    """

    table: Path
    photos: Path
    since: Path | None = None
    reviewer: str | None = None


def serve_desk(request: ServeRequest, desk: DeskRequest) -> int:
    """Serve the desk, beside the page for dropping photos, until a signal ends the server; return the exit code.

    Raises:
        InputMissingError: the table or the folder is missing, or the reviews are damaged.
        UsageError: the table or the reviews are another program's, or the reviewer's name is impossible.
        OutputError: the reviews cannot be written, or the table is damaged.
        LabelDirError: as `serve` does.
    """
    reviewer = getpass.getuser() if desk.reviewer is None else desk.reviewer
    if not is_label(reviewer):
        raise UsageError(f"--reviewer: a name has 1 to {LONGEST_LABEL} printable characters")
    refuse_missing_photos(desk.photos)
    if not desk.table.exists():
        raise InputMissingError(f"{told(desk.table)} does not exist")
    # Before a model is loaded, which takes a while; what needs Arrow waits until the processes of the model are there.
    with reading_reviews(reviews_path(desk.table)):
        pass
    with contextlib.ExitStack() as resources:

        def parts() -> list[ServerPart]:
            model = request.models[0] if request.models else DEFAULT_MODEL
            # Loaded already, with what there is to say about it.
            artifact = artifact_of(dataclasses.replace(request.labelling, model=model), quiet=True)
            return _parts(desk, reviewer, artifact.labels, resources)

        return serve(dataclasses.replace(request, first_page=PAGE.removeprefix("/")), parts)


def _parts(
    desk: DeskRequest, reviewer: str, model_labels: Sequence[str], resources: contextlib.ExitStack
) -> list[ServerPart]:
    """Return the parts of the desk; `resources` closes what they hold. `model_labels` may be chosen, too."""
    from jobs.serving.desk.desk_api import DeskApi, DeskFacts
    from jobs.serving.desk.photo_previews import PhotoPreviews
    from jobs.serving.desk.table_readings import TableReadings

    @functools.cache
    def open_store() -> ReviewStore:
        store = ReviewStore(reviews_path(desk.table), lambda: time.time_ns() // 1000)
        resources.callback(store.close)
        return store

    readings = TableReadings(desk.table, desk.since, open_store)
    previews = PhotoPreviews(desk.photos)
    resources.callback(previews.close)
    facts = DeskFacts(desk.table.name, model_labels, reviewer, desk.since is not None)
    return [_page_part(), DeskApi(facts, readings, previews).part()]


def _page_part() -> ServerPart:
    """Return the page; what it shows of the table comes from the requests of its scripts."""
    from jobs.serving.assets import shipped, static_part

    contents = {PAGE: shipped("jobs.serving.desk", "page/desk.html")}
    names = ("desk.css", *_SCRIPTS)
    return static_part(contents | {f"{PAGE}{name}": shipped("jobs.serving.desk", f"page/{name}") for name in names})
