"""The day a photo was taken, as its camera wrote it; read from headers alone, in processes that may crash."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from models.system.atomic_file import replacing
from pipeline.decoding.image_format import sniff
from pipeline.records import ItemError
from pipeline.sources.read_file import ReadLimits, read_file
from pipeline.system.process_map import process_map
from pipeline.tables.arrow import pa, pq

_EXIF_FOLDER = 0x8769
_TAKEN_TAGS = ((_EXIF_FOLDER, 0x9003), (_EXIF_FOLDER, 0x9004), (None, 0x0132))
_DAY = re.compile(r"((?:19|20)\d\d)[:-](0[1-9]|1[0-2])[:-](0[1-9]|[12]\d|3[01])\b")
_TIMEOUT_S = 20.0
_SCHEMA = pa.schema([pa.field("sha256", pa.string(), nullable=False), pa.field("day", pa.string())])


@dataclass(frozen=True, slots=True)
class _Question:
    sha256: str
    path: str


def days_taken(paths_by_sha256: Mapping[str, str], memory: Path, processes: int) -> dict[str, str | None]:
    """Return for each photo, by the sha256 of its bytes, the day it was taken (`YYYY-MM-DD`), None where it is unsaid.

    What is found is remembered in file `memory`; only photos not in it are opened. Raises OSError.
    """
    known = _remembered(memory)
    questions = [_Question(sha256, path) for sha256, path in paths_by_sha256.items() if sha256 not in known]
    if questions:
        for question, day in process_map(_day_taken, questions, processes, _TIMEOUT_S):
            known[question.sha256] = day
        ordered = sorted(known)
        columns = [pa.array(ordered, pa.string()), pa.array([known[sha256] for sha256 in ordered], pa.string())]
        with replacing(memory) as stream:
            pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), stream)
    return {sha256: known[sha256] for sha256 in paths_by_sha256}


def _remembered(memory: Path) -> dict[str, str | None]:
    try:
        table = pq.read_table(memory, schema=_SCHEMA)
    except (OSError, pa.ArrowException):
        return {}
    return {str(row["sha256"]): row["day"] for row in table.to_pylist()}


def _day_taken(question: _Question) -> str | None:
    found = read_file(question.path, ReadLimits(follow_links=True))
    return None if isinstance(found, ItemError) else day_in_exif(found.content)


def day_in_exif(content: bytes) -> str | None:
    """Return the day in the EXIF data of a photo's bytes (`YYYY-MM-DD`); None where there is none that can be read."""
    format_name, is_allowed = sniff(content)
    if format_name is None or not is_allowed:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=(format_name,)) as image:
                exif = image.getexif()
                for folder, tag in _TAKEN_TAGS:
                    value = (exif if folder is None else exif.get_ifd(folder)).get(tag)
                    if isinstance(value, str) and (day := _DAY.match(value)):
                        return "-".join(day.groups())
    except Exception:
        # EXIF is a parser of its own with failures of its own; the photo has just no day.
        return None
    return None
