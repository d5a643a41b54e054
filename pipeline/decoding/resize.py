"""An RGB photo -> the centre square a model reads, in the very pixels of torch's antialiased resize of uint8.

Pillow's own resize of the same square takes three times the CPU. torch and cykooz_resizer both keep Pillow-SIMD's
arithmetic: weights of 16 bits, as precise as the largest of them allows, and integer sums. torch resizes rows first
(aten/src/ATen/native/cpu/UpSampleKernel.cpp), cykooz_resizer columns first; two calls, one for each direction, give
torch's order and so its bytes. They differ only where a side shrinks more than a hundredfold: torch's weights have one
more bit there. Here no side shrinks more than fivefold in one step.
"""

from __future__ import annotations

import numpy as np
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from numpy.typing import NDArray
from PIL import Image

from models.spec import Crop, Interpolation

# Averaging whole pixels down to twice the target first costs no visible quality, and limits the work of the filter.
_REDUCING_GAP = 2
_CHANNELS = 3
# torch's antialiased "bicubic" is the cubic convolution of Catmull and Rom.
_FILTERS: dict[Interpolation, FilterType] = {"bicubic": FilterType.catmull_rom, "bilinear": FilterType.bilinear}
_OPTIONS = {name: ResizeOptions(ResizeAlg.convolution(kind)) for name, kind in _FILTERS.items()}
_RESIZER = Resizer()


def centre_square(photo: Image.Image | NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    """Resize `photo` (mode RGB, or uint8 [height, width, 3]) to `resize_size` and crop its centre, in one step.

    Returns uint8 [crop_size, crop_size, 3].
    """
    size = photo.size if isinstance(photo, Image.Image) else (photo.shape[1], photo.shape[0])
    side = min(size) * crop.crop_size / crop.resize_size
    (left, right), (top, bottom) = (_centred(length, side) for length in size)
    factor = int(side) // (crop.crop_size * _REDUCING_GAP)
    if factor > 1 and not isinstance(photo, Image.Image):
        photo = Image.fromarray(photo)
    if not isinstance(photo, Image.Image):
        square = photo[top:bottom, left:right]
    elif factor > 1:
        square = np.asarray(photo.reduce(factor, (left, top, right, bottom)))
    else:
        square = np.asarray(photo.crop((left, top, right, bottom)))
    return resize(square, crop.crop_size, crop.interpolation)


def resize(pixels: NDArray[np.uint8], side: int, interpolation: Interpolation) -> NDArray[np.uint8]:
    """Resize `pixels`, uint8 [height, width, 3], with antialiasing to uint8 [side, side, 3], in the calling thread."""
    height, width, _ = pixels.shape
    image = ImageData(width, height, PixelType.U8x3, pixels.tobytes())
    for size in ((side, height), (side, side)):
        resized = ImageData(*size, PixelType.U8x3)
        _RESIZER.resize(image, resized, _OPTIONS[interpolation])
        image = resized
    return np.frombuffer(image.get_buffer(), np.uint8).reshape(side, side, _CHANNELS)


def _centred(length: int, side: float) -> tuple[int, int]:
    """Return begin and end of about `side` pixels in the exact middle of `length`: both margins are equal.

    Half a pixel off the middle, photos decoded at a quarter of their size change 1% more of their labels.
    """
    margin = max(0, round((length - side) / 2))
    return margin, max(length - margin, margin + 1)
