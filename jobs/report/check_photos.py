"""Which photos of a table are still there, byte for byte: only those are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from jobs.report.facts import Photos
from models.system.outside_text import is_sha256
from pipeline.decoding.thumbnail import PhotoState, ThumbnailOrder, compare, make_thumbnails, read_thumbnail
from pipeline.sources.file_names import file_system_name
from pipeline.system.cpus import this_machine, usable_cores

# The files of so many photos are asked for at once: a report of a million photos holds no million futures.
_ORDERS_AT_A_TIME = 1024


@dataclass(slots=True)
class CheckedPhotos:
    """Numbers of the photos whose files have other bytes than those labelled, and of those that cannot be read."""

    changed: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)


def check_photos(photos: Photos, folder: Path, side: int, follow: Callable[[int, int], None]) -> CheckedPhotos:
    """Read the photos below `folder`, compare them with their rows, and cache the thumbnails that are missing.

    A file is a photo of the table by its bytes alone, whatever its name, size and time. `follow` is called with how
    many of how many photos are read.
    """
    checked = CheckedPhotos()
    orders: list[ThumbnailOrder] = []
    for order in _orders(photos, folder, side):
        if is_sha256(order.sha256):
            orders.append(order)
        else:
            checked.changed.add(order.index)
    for done, (order, state) in enumerate(_states(orders), 1):
        if state is PhotoState.CHANGED:
            checked.changed.add(order.index)
        elif state is PhotoState.UNREADABLE:
            checked.unreadable.add(order.index)
        follow(done, len(orders))
    return checked


def _orders(photos: Photos, folder: Path, side: int) -> Iterator[ThumbnailOrder]:
    for index, (name, sha256) in enumerate(zip(photos.names, photos.sha256s, strict=True)):
        yield ThumbnailOrder(index, f"{folder}/{file_system_name(name)}", sha256, side)


def _states(orders: Sequence[ThumbnailOrder]) -> Iterator[tuple[ThumbnailOrder, PhotoState]]:
    """Yield each order and what lies at its path.

    Only photos without a thumbnail are decoded, and so need processes: comparing bytes is done by threads, which hash
    at the same time.
    """
    missing: list[ThumbnailOrder] = []
    cores = usable_cores(this_machine())
    with ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(orders), _ORDERS_AT_A_TIME):
            several = orders[start : start + _ORDERS_AT_A_TIME]
            for order, state in zip(several, pool.map(_state_if_cached, several), strict=True):
                if state is None:
                    missing.append(order)
                else:
                    yield order, state
    yield from make_thumbnails(missing, min(cores, len(missing)))


def _state_if_cached(order: ThumbnailOrder) -> PhotoState | None:
    """Return what lies at the path of an order that needs no decoding; None where the thumbnail is missing."""
    return None if read_thumbnail(order.sha256, order.side) is None else compare(order)
