"""Thumbnails: the square that the model reads, small; made in processes that may crash, cached by content."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image

from models.spec import Crop
from pipeline.decoding.decode import DecodeRules, decode_bytes
from pipeline.records import ItemError
from pipeline.sources.read_file import ReadLimits, read_file
from pipeline.system.process_map import process_map

_QUALITY = 50
# Effort 2 of 6: a third of the time of effort 4 for 5% more bytes.
_EFFORT = 2
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class ThumbnailOrder:
    """A thumbnail of `side` x `side` pixels to make of file `path` and to keep as `cached`."""

    path: str
    cached: str
    side: int


def cache_folder() -> Path:
    """Return the folder of cached thumbnails: below $XDG_CACHE_HOME, or where this system keeps caches."""
    return platformdirs.user_cache_path("label-dir") / "thumbnails"


def cached_path(sha256: str, side: int) -> Path:
    """Return the file for the thumbnail of the photo with these bytes."""
    return cache_folder() / str(side) / sha256[:2] / f"{sha256[2:]}.webp"


def make_thumbnails(orders: Iterable[ThumbnailOrder], processes: int) -> Iterator[tuple[ThumbnailOrder, bool]]:
    """Make thumbnails in parallel; yield each order when it is finished, and whether its thumbnail was made."""
    for order, made in process_map(_make, orders, processes, _TIMEOUT_S):
        yield order, bool(made)


def _make(order: ThumbnailOrder) -> bool:
    found = read_file(order.path, ReadLimits(follow_links=True))
    if isinstance(found, ItemError):
        return False
    pixels = np.empty((order.side, order.side, 3), np.uint8)
    rules = DecodeRules(Crop(order.side, order.side, "bicubic"), ReadLimits(), resize=_centre_square)
    if isinstance(decode_bytes(found.content, rules, pixels), ItemError):
        return False
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=_QUALITY, method=_EFFORT)
    return _keep(Path(order.cached), stream.getvalue())


def _centre_square(image: Image.Image, crop: Crop) -> NDArray[np.uint8]:
    """Return the same square as `centre_square`, by Pillow: a process without torch starts at once and stays small."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    size = (crop.crop_size, crop.crop_size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=2.0))


def _keep(path: Path, content: bytes) -> bool:
    """Write in one step, without fsync: a thumbnail that a power cut damages is made again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True


def read_thumbnail(sha256: str, side: int) -> bytes | None:
    """Return the cached thumbnail for these bytes, a WebP file; None where there is no whole one."""
    try:
        content = cached_path(sha256, side).read_bytes()
    except OSError:
        return None
    is_whole = content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 == len(content)
    return content if is_whole else None
