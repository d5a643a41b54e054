"""The photos that a model is taught with: their classes, their digests, and their decoded pixels in a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.classifier import Pixels

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Moment:
    """When a photo was taken, in seconds of its camera's clock, and what the camera calls itself."""

    camera: str
    time_s: float


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photos in the order of the rows of `pixels_path`, uint8 [n, side, side, 3] without a header.

    `classes` int64 [n] are indices of `labels`, UNKNOWN for photos of none of the classes. `digests` are the sha256 of
    the files in hexadecimal. `moments` say when and by which camera each photo was taken, where it says so.
    `held_out` bool [n] marks photos that must not train; None leaves the choice to the split.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    classes: Rows
    moments: tuple[Moment | None, ...]
    pixels_path: Path
    side: int
    held_out: Flags | None = None

    def pixels(self, rows: Iterable[int]) -> Pixels:
        """uint8 [rows, side, side, 3]; read, not mapped, so that photos seen once stay out of this process's memory."""
        wanted = [int(row) for row in rows]
        found = np.empty((len(wanted), self.side, self.side, 3), np.uint8)
        descriptor = os.open(self.pixels_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for photo, row in zip(found, wanted, strict=True):
                os.preadv(descriptor, [photo.data], row * photo.nbytes)
        finally:
            os.close(descriptor)
        return found
