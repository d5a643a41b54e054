"""A table and its photos -> one self-contained HTML file: figures, rows and thumbnails."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from jobs.report.changes import changes_since_last, memory_path
from jobs.report.check_photos import CheckedPhotos, check_photos
from jobs.report.facts import Facts, Photos, facts_of
from jobs.report.find_photos import find_photos, source_folder
from models.system.atomic_file import replacing
from pipeline.decoding.thumbnail import read_thumbnail
from pipeline.errors import OutputError, UsageError, output_errors
from pipeline.reviews.reviewed_labels import read_reviewed_rows
from pipeline.sources.file_names import file_system_name

# As many as one page of the contact sheet shows: the browser draws the first page while it reads the other chunks.
THUMBNAILS_PER_CHUNK = 60
_PHOTOS_PER_PAGE = THUMBNAILS_PER_CHUNK
# The more photos, the smaller their thumbnails: the page must stay one file that a browser opens at once.
_SIDES_BY_COUNT = ((4_000, 192), (16_000, 128))
_SMALLEST_SIDE = 96
_SCRIPTS = ("elements.js", "data.js", "sheet.js", "photo.js", "events.js")
_REST_OF_THUMBNAILS = "<!--thumbnails-->"
_GENERATOR = "label-report of label-dir"
# The second mark is that of pages of earlier versions.
_MARKS = (
    f'<meta name="generator" content="{_GENERATOR}">'.encode(),
    b'<a class="skip" href="#photos">Skip to the photos</a>\n<header class="top">',
)
_LONGEST_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The figures that a page shows, whether it has thumbnails and links, and how many photos changed meanwhile."""

    facts: Facts
    has_photos: bool
    changed: int


@dataclass(frozen=True, slots=True)
class _ShownPhotos:
    """Where the photos lie, if that is known, which of them are no longer those of the table, the thumbnails' size."""

    folder: Path | None
    checked: CheckedPhotos
    side: int


def write_report(
    table: Path,
    report: Path,
    photos: Path | None = None,
    title: str | None = None,
    on_thumbnail: Callable[[int, int], None] = lambda done, of: None,
) -> WrittenReport:
    """Write the page about `table` to `report`; `photos` None: the folder of the photos is looked for near the table.

    Without the photos the page has no thumbnails and no links. `on_thumbnail` is called with how many
    thumbnails are made, and of how many.

    Raises:
        InputMissingError: the table does not exist, or the reviews beside it are damaged.
        UsageError: `table` is not a table of label-dir, the reviews are another program's, or `report` is no page of
            label-report.
        OutputError: the page cannot be written.
    """
    rows = read_reviewed_rows(table)
    facts = facts_of(rows)
    report = report.resolve()
    refuse_foreign_page(report)
    shown = _shown_photos(table, facts.photos, photos, _side_for(facts.labelled), on_thumbnail)
    with output_errors(report):
        changes = changes_since_last(rows, memory_path(report))
        page = _page(facts, table, report, shown, title or table.name, changes)
        head, _, tail = page.partition(_REST_OF_THUMBNAILS)
        with replacing(report) as stream:
            stream.write(head.encode())
            for number in range(1, _chunk_count(facts.photos)):
                stream.write(_chunk(facts.photos, number, shown).encode())
            stream.write(tail.encode())
    return WrittenReport(facts, shown.folder is not None, len(shown.checked.changed))


def _side_for(count: int) -> int:
    return next((side for limit, side in _SIDES_BY_COUNT if count <= limit), _SMALLEST_SIDE)


def refuse_foreign_page(report: Path) -> None:
    """Refuse to replace a file that is no report.

    Raises:
        UsageError: `report` is there, and is no page that `write_report` has written.
        OutputError: `report` is there and cannot be read.
    """
    try:
        if not report.is_file():
            is_ours = not report.exists()
        else:
            with report.open("rb") as stream:
                beginning = stream.read(_LONGEST_HEAD_BYTES)
            is_ours = not beginning or any(mark in beginning for mark in _MARKS)
    except OSError as error:
        raise OutputError(f"{report} cannot be read: {error.strerror or error}") from error
    if not is_ours:
        raise UsageError(f"{report} is no page of label-report; move it away, or choose another name")


def _shown_photos(
    table: Path, photos: Photos, named: Path | None, side: int, follow: Callable[[int, int], None]
) -> _ShownPhotos:
    folder = named or source_folder(table) or find_photos(table, photos.names)
    if folder is None:
        return _ShownPhotos(None, CheckedPhotos(), side)
    return _ShownPhotos(folder, check_photos(photos, folder, side, follow), side)


def _page(facts: Facts, table: Path, report: Path, shown: _ShownPhotos, title: str, changes: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["day"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    style, script = asset("page.css"), _script()
    return environment.get_template("page.html.jinja").render(
        title=_as_text(title),
        table=_as_text(str(table)),
        facts=facts,
        changes=changes,
        now_s=time.time(),
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        data=Markup(_inert_json(_data(facts, report, shown))),
        first_thumbnails=Markup(_chunk(facts.photos, 0, shown)),
        rest_of_thumbnails=Markup(_REST_OF_THUMBNAILS),
        has_photos=shown.folder is not None,
        changed=len(shown.checked.changed),
        generator=_GENERATOR,
    )


def _as_text(path: str) -> str:
    """Return a path with those of its bytes escaped that are not UTF-8, which no page can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _script() -> str:
    """Return the files of the page's script as one function."""
    return '"use strict";\n(() => {\n' + "\n".join(asset(name) for name in _SCRIPTS) + "})();\n"


def asset(name: str) -> str:
    """A file that pages are made of, by its name."""
    return (resources.files("jobs.report") / name).read_text(encoding="utf-8")


def csp_hash(source: str) -> Markup:
    """What allows an inline style or script in a page's Content-Security-Policy."""
    return Markup("'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'")


def _inert_json(value: object) -> str:
    """Return JSON that an HTML parser can only read as text: `<`, `>` and `&` are escaped."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(facts: Facts, report: Path, shown: _ShownPhotos) -> Mapping[str, object]:
    photos = facts.photos
    columns = [*photos.labels, photos.reviewed_labels]
    ids = {name: number for number, name in enumerate(sorted({str(x) for column in columns for x in column if x}))}
    return {
        "base": None if shown.folder is None else _relative_url(shown.folder, report.parent),
        "changed": sorted(shown.checked.changed),
        "unreadable": sorted(shown.checked.unreadable),
        "labels": list(ids),
        "names": photos.names,
        "encodedNames": {
            index: quote(os.fsencode(file_system_name(name))) for index, name in enumerate(photos.names) if "\\" in name
        },
        "ids": [[ids.get(str(label), -1) for label in rank] for rank in photos.labels],
        "reviewed": [ids.get(str(label), -1) for label in photos.reviewed_labels] if facts.reviewed else None,
        "probs": photos.permyriads,
        "unsure": photos.unsure,
        "widths": photos.widths,
        "heights": photos.heights,
        "bytes": photos.size_bytes,
        "mtimes": [mtime_us // 1_000_000 for mtime_us in photos.mtimes_us],
        "failures": [[failure.name, failure.error_class, failure.reason] for failure in facts.failures],
        "perPage": _PHOTOS_PER_PAGE,
        "perChunk": THUMBNAILS_PER_CHUNK,
    }


def _relative_url(folder: Path, start: Path) -> str:
    """Return the URL from the page to the photos, relative so that page and photos can be moved together."""
    relative = os.path.relpath(folder.resolve(), start)
    encoded = quote(os.fsencode(relative))
    # Without the dot, "a:b/" would be a URL of scheme "a".
    return f"./{encoded}/"


def _chunk_count(photos: Photos) -> int:
    return -(-len(photos.names) // THUMBNAILS_PER_CHUNK)


def _chunk(photos: Photos, number: int, shown: _ShownPhotos) -> str:
    """Return a script element of type text/plain: one base64 line for each photo, empty where it has no thumbnail."""
    return (
        f'<script type="text/plain" id="thumbnails-{number}">'
        + "\n".join(_lines(photos, number, shown))
        + "</script>\n"
    )


def _lines(photos: Photos, number: int, shown: _ShownPhotos) -> Iterator[str]:
    begin = number * THUMBNAILS_PER_CHUNK
    for index, sha256 in enumerate(photos.sha256s[begin : begin + THUMBNAILS_PER_CHUNK], begin):
        found = None if index in shown.checked.changed else read_thumbnail(sha256, shown.side)
        yield base64.b64encode(found or b"").decode()
