"""The pixels of an undamaged JPEG by libjpeg-turbo's own interface: the same pixels as Pillow's, in less time.

Pillow keeps RGB in four bytes a pixel; adding and removing the fourth byte costs a tenth of the time of a photo.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image


def sound_jpeg_pixels(content: bytes, image: Image.Image) -> NDArray[np.uint8] | None:
    """Return the pixels of `content`, from which `image` was opened, at the present size of `image` (`Image.draft`).

    Returns uint8 [height, width, 3]; None where Pillow must decode: the colours are not RGB, or libjpeg-turbo reports
    an error or a warning.
    """
    if image.mode != "RGB":
        return None
    width, height = image.size
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None
