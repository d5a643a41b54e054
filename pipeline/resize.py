"""An RGB photo -> the centre square a model reads, resized by torch.

Pillow's own resize of the same square takes three times the CPU: torch's antialiased resize of interleaved uint8 uses
the wide registers of the CPU, and gives the same pixels but for a rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.spec import Preprocessing
from pipeline.libtorch import resize

# Averaging whole pixels down to twice the target first costs no visible quality, and bounds what is filtered.
_REDUCING_GAP = 2


def centre_square(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize `image` (mode RGB) to `resize_size` and crop its centre, in one step.

    Returns uint8 [crop_size, crop_size, 3].
    """
    crop_size = preprocessing.crop_size
    side = min(image.size) * crop_size / preprocessing.resize_size
    (left, right), (top, bottom) = (_centred(length, side) for length in image.size)
    box = (left, top, right, bottom)
    factor = int(side) // (crop_size * _REDUCING_GAP)
    square = image.reduce(factor, box) if factor > 1 else image.crop(box)
    return resize(np.asarray(square), crop_size, preprocessing.interpolation)


def _centred(length: int, side: float) -> tuple[int, int]:
    """Return where about `side` pixels in the exact middle of `length` begin and end: as many on either side of them.

    Off the middle by half a pixel, a JPEG decoded at a quarter changes 1% more of its labels than one that is not.
    """
    margin = max(0, round((length - side) / 2))
    return margin, max(length - margin, margin + 1)
