"""Thumbnails: the square that the model reads, or the whole photo, small; made in processes that may crash.

They are cached by content.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.spec import Crop
from models.system.atomic_file import replace_quickly
from models.system.outside_text import is_sha256
from models.system.user_cache import user_cache
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.records import ItemError
from pipeline.sources.read_file import ReadLimits, read_file
from pipeline.system.process_map import process_map

# Quality and effort. Effort 2 of 6: a third of the time of effort 4 for 5% more bytes. A whole photo is waited for.
_SQUARE_ENCODING = (50, 2)
_WHOLE_ENCODING = (75, 0)
THUMBNAIL_TIMEOUT_S = 20.0


class PhotoState(Enum):
    """What lies at the path of a photo: the bytes that were labelled, other bytes, or nothing that can be read."""

    SAME = "same"
    CHANGED = "changed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class ThumbnailOrder:
    """A thumbnail of `side` x `side` pixels of the photo at `path`, number `index`, if its bytes have this `sha256`.

    If it `is_whole`, all of the photo fits into that square and is not enlarged.
    """

    index: int
    path: str
    sha256: str
    side: int
    is_whole: bool = False
    follow_links: bool = True


def cache_folder() -> Path:
    """Return the folder of cached thumbnails.

    Raises:
        UsageError: this user has no folder for caches.
    """
    return user_cache() / "thumbnails"


def cached_path(sha256: str, side: int, is_whole: bool = False) -> Path:
    """Return the file for the thumbnail of the photo with these bytes.

    Raises:
        ValueError: `sha256`, which may come from a table, is none, and could lead out of the cache.
    """
    if not is_sha256(sha256):
        raise ValueError(f"{sha256!r} is no sha256")
    # Earlier versions kept thumbnails of other bytes below str(side).
    return cache_folder() / (f"{side}px-whole" if is_whole else f"{side}px") / sha256[:2] / f"{sha256[2:]}.webp"


def make_thumbnails(orders: Iterable[ThumbnailOrder], processes: int) -> Iterator[tuple[ThumbnailOrder, PhotoState]]:
    """Read photos in parallel and cache the thumbnails that are missing; yield each order when it is finished."""
    for order, state in process_map(make_thumbnail, orders, processes, THUMBNAIL_TIMEOUT_S):
        yield order, state or PhotoState.UNREADABLE


def compare(order: ThumbnailOrder) -> PhotoState:
    """Read the photo of an order, and tell whether its bytes are those of the order."""
    return _read(order)[1]


def make_thumbnail(order: ThumbnailOrder) -> PhotoState:
    """Read the photo and cache its thumbnail, if that is missing; to be called in a process that may crash."""
    content, state = _read(order)
    if state is PhotoState.SAME and read_thumbnail(order.sha256, order.side, order.is_whole) is None:
        _cache_thumbnail(content, order)
    return state


def _read(order: ThumbnailOrder) -> tuple[bytes, PhotoState]:
    found = read_file(order.path, ReadLimits(follow_links=order.follow_links))
    if isinstance(found, ItemError):
        return b"", PhotoState.UNREADABLE
    is_same = hashlib.sha256(found.content).hexdigest() == order.sha256
    return found.content, PhotoState.SAME if is_same else PhotoState.CHANGED


def _cache_thumbnail(content: bytes, order: ThumbnailOrder) -> None:
    """Keep the thumbnail of these bytes; a photo that is not decoded, or a cache that is full, has none."""
    pixels = np.empty((order.side, order.side, 3), np.uint8)
    resize = _whole if order.is_whole else _centre_square
    rules = DecodeRules(Crop(order.side, order.side, "bicubic"), ReadLimits(), resize=resize)
    size = decode_bytes(content, rules, pixels)
    if isinstance(size, ItemError):
        return
    quality, effort = _WHOLE_ENCODING if order.is_whole else _SQUARE_ENCODING
    if order.is_whole:
        pixels = _without_margin(pixels, size)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=quality, method=effort)
    path = cached_path(order.sha256, order.side, order.is_whole)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_quickly(path, stream.getvalue())


def _whole(image: Image.Image, crop: Crop) -> NDArray[np.uint8]:
    """Return the whole picture in the middle of a square, so that turning the square keeps it there."""
    width, height = _fitting(image.size, crop.crop_size)
    square = np.zeros((crop.crop_size, crop.crop_size, 3), np.uint8)
    left, top = (crop.crop_size - width) // 2, (crop.crop_size - height) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


def _without_margin(square: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture in the middle of `square`, made of a photo of this `size` (width, height)."""
    side = len(square)
    width, height = _fitting(size, side)
    left, top = (side - width) // 2, (side - height) // 2
    return square[top : top + height, left : left + width]


def _fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the width and height of a picture that is made to fit into a square, and never enlarged."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _centre_square(image: Image.Image, crop: Crop) -> NDArray[np.uint8]:
    """Return the same square as `centre_square`, by Pillow: a process without torch starts at once and stays small."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    size = (crop.crop_size, crop.crop_size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=2.0))


def read_thumbnail(sha256: str, side: int, is_whole: bool = False) -> bytes | None:
    """Return the cached thumbnail for these bytes, a WebP file; None where there is no whole one."""
    if not is_sha256(sha256):
        return None
    try:
        content = cached_path(sha256, side, is_whole).read_bytes()
    except OSError:
        return None
    is_complete = content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 == len(content)
    return content if is_complete else None
