"""What decides the pixels of a photo and which photos are refused; imports no decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.spec import Crop
from pipeline.sources.read_file import ReadLimits

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class DecodeRules:
    """How a photo becomes the input of a model, and how large it may be."""

    crop: Crop
    limits: ReadLimits
    # JPEGs are decoded at 1/2, 1/4 or 1/8 size where that is enough; False only to measure what that changes.
    scaled_decoding: bool = True
    # Resizes and crops instead of `centre_square`, with which the accuracy of the models was measured.
    resize: Callable[[Image.Image, Crop], NDArray[np.uint8]] | None = None
