"""The day a photo was taken, from its EXIF header, read in worker processes that may crash."""

from __future__ import annotations

import datetime
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from models.system.atomic_file import replacing
from pipeline.decoding.image_format import sniff
from pipeline.records import ItemError
from pipeline.sources.read_file import ReadLimits, read_file
from pipeline.system.process_map import process_map
from pipeline.tables.arrow import arrow_file, pa, pq

Result = TypeVar("Result")

_EXIF_FOLDER = 0x8769
_TAKEN_TAGS = ((_EXIF_FOLDER, 0x9003), (_EXIF_FOLDER, 0x9004), (None, 0x0132))
_DAY = re.compile(r"((?:19|20)\d\d)[:-](0[1-9]|1[0-2])[:-](0[1-9]|[12]\d|3[01])\b")
_TIMEOUT_S = 20.0
_SCHEMA = pa.schema([pa.field("sha256", pa.string(), nullable=False), pa.field("day", pa.string())])


def days_taken(paths_by_sha256: Mapping[str, str], cache: Path, processes: int) -> dict[str, str | None]:
    """Return for each photo, by the sha256 of its bytes, the day it was taken (`YYYY-MM-DD`), None without such a day.

    The days are kept in file `cache`; only photos that are not in it are opened.

    Raises:
        OSError: `cache` cannot be written.
    """
    known = _cached(cache)
    new = [(sha256, path) for sha256, path in paths_by_sha256.items() if sha256 not in known]
    if new:
        passing: dict[str, str | None] = {}
        for (sha256, _), answer in process_map(_day_taken, new, processes, _TIMEOUT_S):
            if answer is None or answer.is_unread:
                # A file that could not be read now, or a worker that died: the next run asks again.
                passing[sha256] = None
            else:
                known[sha256] = answer.day
        rows = [{"sha256": sha256, "day": day} for sha256, day in sorted(known.items())]
        with replacing(cache) as stream:
            pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), stream)
        known |= passing
    return {sha256: known[sha256] for sha256 in paths_by_sha256}


def _cached(cache: Path) -> dict[str, str | None]:
    try:
        rows = pq.read_table(arrow_file(cache), schema=_SCHEMA).to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return {}
    # A day becomes a part of a path; what is no day is read from the photo again.
    return {str(row["sha256"]): day for row in rows if (day := row["day"]) is None or _day_of(day) == day}


@dataclass(frozen=True, slots=True)
class _Answer:
    """The day of a photo, or that its file could not be read."""

    day: str | None
    is_unread: bool = False


def _day_taken(photo: tuple[str, str]) -> _Answer:
    sha256, path = photo
    found = read_file(path, ReadLimits(follow_links=True))
    if isinstance(found, ItemError) or hashlib.sha256(found.content).hexdigest() != sha256:
        # Other bytes say nothing of the photo in the row.
        return _Answer(None, is_unread=True)
    return _Answer(day_in_exif(found.content))


def _day_of(text: str) -> str | None:
    """Return the day that an EXIF time begins with; None for a day that no calendar has, such as 2021:02:31."""
    found = _DAY.match(text)
    if found is None:
        return None
    try:
        return datetime.date(*map(int, found.groups())).isoformat()
    except ValueError:
        return None


def read_exif(content: bytes, read: Callable[[Image.Exif], Result | None]) -> Result | None:
    """Return what `read` finds in the EXIF data of a photo's bytes; None where the data or the parser fails."""
    format_name, is_allowed = sniff(content)
    if format_name is None or not is_allowed:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=(format_name,)) as image:
                return read(image.getexif())
    except Exception:
        # The EXIF parser raises errors of any class; such a photo has no such data.
        return None


def day_in_exif(content: bytes) -> str | None:
    """Return the day in the EXIF data of a photo's bytes (`YYYY-MM-DD`); None where no day can be read."""
    return read_exif(content, _first_day)


def _first_day(exif: Image.Exif) -> str | None:
    for folder, tag in _TAKEN_TAGS:
        value = (exif if folder is None else exif.get_ifd(folder)).get(tag)
        if isinstance(value, str) and (day := _day_of(value)):
            return day
    return None
