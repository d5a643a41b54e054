"""Which photos of a table are still there, byte for byte: only those are shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jobs.report.facts import Photos
from models.system.outside_text import is_sha256
from pipeline.decoding.thumbnail import PhotoState, ThumbnailOrder, make_thumbnails, read_thumbnail
from pipeline.sources.file_names import file_system_name
from pipeline.system.cpus import this_machine, usable_cores


@dataclass(slots=True)
class CheckedPhotos:
    """Numbers of the photos whose files have other bytes than those labelled, and of those that cannot be read."""

    changed: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)


def check_photos(
    photos: Photos, folder: Path, is_source: bool, side: int, follow: Callable[[int, int], None]
) -> CheckedPhotos:
    """Read the photos below `folder`, compare them with their rows, and cache the thumbnails that are missing.

    In the folder that the table is of (`is_source`) a photo is not read again if it has a thumbnail, and its file the
    size and time of its row. Anywhere else a file of the same name is a photo of the table only by its bytes.
    `follow` is called with how many of how many photos are read.
    """
    checked = CheckedPhotos()
    orders: list[ThumbnailOrder] = []
    for order, size_bytes, mtime_us in _orders(photos, folder, side):
        if not is_sha256(order.sha256):
            checked.changed.add(order.index)
        elif not (is_source and _is_untouched(order.path, size_bytes, mtime_us) and _has_thumbnail(order)):
            orders.append(order)
    processes = min(usable_cores(this_machine()), len(orders))
    for done, (order, state) in enumerate(make_thumbnails(orders, processes), 1):
        if state is PhotoState.CHANGED:
            checked.changed.add(order.index)
        elif state is PhotoState.UNREADABLE:
            checked.unreadable.add(order.index)
        follow(done, len(orders))
    return checked


def _orders(photos: Photos, folder: Path, side: int) -> Iterator[tuple[ThumbnailOrder, int, int]]:
    rows = zip(photos.names, photos.sha256s, photos.size_bytes, photos.mtimes_us, strict=True)
    for index, (name, sha256, size_bytes, mtime_us) in enumerate(rows):
        yield ThumbnailOrder(index, f"{folder}/{file_system_name(name)}", sha256, side), size_bytes, mtime_us


def _is_untouched(path: str, size_bytes: int, mtime_us: int) -> bool:
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return False
    return (facts.st_size, facts.st_mtime_ns // 1000) == (size_bytes, mtime_us)


def _has_thumbnail(order: ThumbnailOrder) -> bool:
    return read_thumbnail(order.sha256, order.side) is not None
