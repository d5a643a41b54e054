"""A taught model -> one HTML file: how good it is, where it is wrong, and which photos to look at."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from jobs.report.write import asset, csp_hash
from jobs.workshop.teaching import TaughtModel
from jobs.workshop.teaching_changes import class_changes
from models.system.atomic_file import replacing
from models.teaching.confidence import softmax
from models.teaching.figures import ClassFigures
from models.teaching.photo_set import UNKNOWN
from pipeline.decoding.thumbnail import ThumbnailOrder, make_thumbnails, read_thumbnail
from pipeline.errors import OutputError
from pipeline.system.cpus import this_machine, usable_cores

MARK = "label-models teach"
THUMBNAIL_SIDE = 128
SHOWN_PHOTOS = 60
SHOWN_PAIRS = 30
SUSPECT_SHARE = 0.02
FEWEST_SUSPECTS = 12
MATRIX_CELL = 9


@dataclass(frozen=True, slots=True)
class Shown:
    """A photo on the page: its row, its name, its true label, what the model says, and how sure it is."""

    row: int
    name: str
    label: str
    given: str
    probability: float


@dataclass(frozen=True, slots=True)
class Twins:
    """Two near-duplicates: what they are called, how alike they are, and what is odd about it, if anything."""

    first: Shown
    second: Shown
    cosine: float
    oddity: str


@dataclass(frozen=True, slots=True)
class PagePhotos:
    """The photos on the page, by why they are there."""

    wrong: tuple[Shown, ...]
    unsure: tuple[Shown, ...]
    suspects: tuple[Shown, ...]
    twins: tuple[Twins, ...]

    @property
    def all(self) -> Iterable[Shown]:
        """Every photo, some several times."""
        yield from (*self.wrong, *self.unsure, *self.suspects)
        for pair in self.twins:
            yield from (pair.first, pair.second)


def write_teaching_report(report: Path, name: str, taught: TaughtModel) -> None:
    """Write the page about a taught model. Raises OutputError; a file that is no such report is not replaced."""
    check_replaceable(report)
    photos = page_photos(taught)
    thumbnails = _thumbnails(taught, sorted({one.row for one in photos.all}))
    style = asset("page.css") + asset("teaching.css")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda share: "-" if share is None else f"{share:.1%}"
    page = environment.get_template("teaching.html.jinja").render(
        mark=MARK,
        name=name,
        taught=taught,
        figures=taught.figures,
        lesson=taught.lesson,
        certificate=taught.certificate,
        photos=photos,
        thumbnails=thumbnails,
        changes=class_changes(taught),
        few=[one for one in taught.figures.classes if one.has_few],
        classes=sorted(taught.figures.classes, key=_worst_first),
        matrix=_matrix(taught),
        advice=_advice(taught),
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        style=Markup(style),
        style_hash=csp_hash(style),
        side=THUMBNAIL_SIDE,
    )
    try:
        with replacing(report.resolve()) as stream:
            stream.write(page.encode())
    except OSError as error:
        raise OutputError(f"{report} cannot be written: {error.strerror or error}") from error


def check_replaceable(report: Path) -> None:
    """Raise OutputError where another file than a report of this kind would be replaced, or no folder is there."""
    if not report.resolve().parent.is_dir():
        raise OutputError(f"{report} cannot be written: there is no folder {report.resolve().parent}")
    try:
        with report.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{report} cannot be written: {error.strerror}") from error
    if f'<meta name="generator" content="{MARK}">'.encode() not in head:
        raise OutputError(f"{report} is no report of label-models teach, so it is not replaced: use --report")


def page_photos(taught: TaughtModel) -> PagePhotos:
    """Which photos are worth looking at."""
    photos, lesson = taught.decoded.photos, taught.lesson
    probabilities = softmax(taught.int8)
    judged = [
        _shown(taught, int(row), int(one.argmax()), float(one.max()))
        for row, one in zip(taught.judged, probabilities, strict=True)
    ]
    wrong = sorted((one for one in judged if one.given != one.label), key=lambda one: -one.probability)
    unsure = sorted((one for one in judged if one.given == one.label), key=lambda one: one.probability)
    known = int((photos.classes != UNKNOWN).sum())
    count = min(SHOWN_PHOTOS, max(FEWEST_SUSPECTS, round(SUSPECT_SHARE * known)))
    suspects = [
        _shown(taught, int(row), int(lesson.suspects[row]), 0.0)
        for row in np.argsort(-lesson.doubts, kind="stable")[:count]
        if np.isfinite(lesson.doubts[row])
    ]
    twins = [_twins(taught, first, second, cosine) for first, second, cosine in lesson.pairs]
    twins.sort(key=lambda pair: (not pair.oddity, -pair.cosine))
    return PagePhotos(tuple(wrong[:SHOWN_PHOTOS]), tuple(unsure[:24]), tuple(suspects), tuple(twins[:SHOWN_PAIRS]))


def _shown(taught: TaughtModel, row: int, given: int, probability: float) -> Shown:
    photos = taught.decoded.photos
    label = photos.classes[row]
    true = photos.labels[label] if label != UNKNOWN else "none of the classes"
    return Shown(row, photos.names[row], true, photos.labels[given], probability)


def _twins(taught: TaughtModel, first: int, second: int, cosine: float) -> Twins:
    classes, held = taught.decoded.photos.classes, taught.lesson.held_out
    oddity = ""
    if classes[first] != classes[second]:
        oddity = "in two classes"
    elif held[first] != held[second]:
        oddity = "one was taught, the other judges"
    return Twins(_shown(taught, first, 0, 0.0), _shown(taught, second, 0, 0.0), cosine, oddity)


def _thumbnails(taught: TaughtModel, rows: Sequence[int]) -> dict[int, str]:
    """Row -> the thumbnail in base64, for the photos that can be read."""
    digests = taught.decoded.photos.digests
    orders = [
        ThumbnailOrder(row, taught.decoded.paths[row], digests[row], THUMBNAIL_SIDE)
        for row in rows
        if read_thumbnail(digests[row], THUMBNAIL_SIDE) is None
    ]
    if orders:
        for _ in make_thumbnails(orders, min(usable_cores(this_machine()), len(orders))):
            pass
    found = {row: read_thumbnail(digests[row], THUMBNAIL_SIDE) for row in rows}
    return {row: base64.b64encode(content).decode() for row, content in found.items() if content}


def _worst_first(one: ClassFigures) -> tuple[float, str]:
    return (2.0 if one.recall is None else one.recall, one.label)


def _matrix(taught: TaughtModel) -> list[tuple[int, int, float, str]]:
    """Cells of the confusion matrix that are not empty: column, row, share of the row's photos, and what to say."""
    places = {one.label: place for place, one in enumerate(taught.figures.classes)}
    cells = []
    for one in taught.figures.classes:
        if one.right:
            place = places[one.label] * MATRIX_CELL
            cells.append((place, place, one.right / one.judged, f"{one.label}: {one.right} of {one.judged} right"))
    for true, given, count in taught.figures.confusions:
        judged = taught.figures.classes[places[true]].judged
        text = f"{true} taken for {given}: {count} of {judged}"
        cells.append((places[given] * MATRIX_CELL, places[true] * MATRIX_CELL, count / judged, text))
    return cells


def _advice(taught: TaughtModel) -> list[str]:
    """What more time, or more photos, would bring, as far as it was measured."""
    lesson = taught.lesson
    told = []
    if lesson.only_head:
        told.append(
            "Only the last layer was taught again, because few photos are new; --fresh teaches the whole network."
        )
    elif lesson.epochs + 0.5 < lesson.epochs_worthwhile:
        told.append(
            f"Each photo was seen {lesson.epochs:.1f} times; up to {lesson.epochs_worthwhile:.0f} times are worth it, "
            f"which takes about {lesson.epochs_worthwhile / max(lesson.epochs, 0.1):.1f} times as long (--minutes)."
        )
    else:
        told.append("More time would bring nothing: each photo was seen as often as is worth it.")
    if len(lesson.curve) >= 2:
        (fewer, low), (all_photos, high) = lesson.curve[-2:]
        told.append(
            f"A quick classifier gets {low:.1%} right with {fewer} photos and {high:.1%} with {all_photos}: "
            + ("more photos would help." if high - low > 0.01 else "more photos of the same kind would bring little.")
        )
    return told
