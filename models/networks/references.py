"""What a taught model compares a photo's features with, to tell how like anything that was taught it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class References:
    """Directions of photos that were taught: `photos` float32 [dimensions, n], of length 1 at most, in an orthonormal
    `basis` float32 [features, dimensions]."""

    basis: Features
    photos: Features
