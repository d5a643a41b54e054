"""Photos that a model is calibrated and certified on, and generated images where there are no photos.

Generated images follow the "dead leaves" model: discs of every size that hide one another, whose edges, scales and
contrasts resemble those of photographs (Lee, Mumford and Huang, "Occlusion Models for Natural Images: A Statistical
Study of a Scale-Invariant Dead Leaves Model", 2001). The same seed gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DISCS_PER_IMAGE = 300
SMALLEST_RADIUS_PIXELS = 2.0
# Generated images for calibration. Certification has a seed of its own, so that its images are new to the model.
CALIBRATION_IMAGES, CALIBRATION_SEED = 64, 5


@dataclass(frozen=True, slots=True)
class Photos:
    """Resized and cropped photos, and where they come from.

    `pixels` are uint8 [n, crop, crop, 3] RGB, `description` is for people to read, `digests` are the sha256 of the
    files (none for generated images), `classes` are the true classes, int64 [n], where they are known.
    """

    pixels: npt.NDArray[np.uint8]
    description: str
    digests: tuple[str, ...] = ()
    classes: npt.NDArray[np.int64] | None = None


def generated_images(count: int, side: int, seed: int) -> npt.NDArray[np.uint8]:
    """Images uint8 [count, side, side, 3] RGB; image i depends on `side`, `seed` and i alone."""
    return np.stack([_dead_leaves(side, np.random.default_rng([seed, index])) for index in range(count)])


def _dead_leaves(side: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """One image uint8 [side, side, 3]: shaded discs drawn over one another, then Gaussian noise."""
    image = np.broadcast_to(random.integers(0, 256, 3), (side, side, 3)).astype(np.float32)
    rows, columns = np.ogrid[:side, :side]
    # Radii with density r ** -3 make the image look the same at every scale.
    share = random.random(DISCS_PER_IMAGE)
    largest = side / 2
    radii = (share / SMALLEST_RADIUS_PIXELS**2 + (1 - share) / largest**2) ** -0.5
    for radius in radii:
        row, column = (int(x) for x in random.integers(0, side, 2))
        top, left = max(0, int(row - radius)), max(0, int(column - radius))
        window = np.s_[top : int(row + radius) + 1, left : int(column + radius) + 1]
        y, x = (rows[window[0]] - row) / radius, (columns[:, window[1]] - column) / radius
        inside = y**2 + x**2 <= 1
        colour = random.integers(0, 256, 3).astype(np.float32)
        shade = random.normal(0.0, 20.0) * y + random.normal(0.0, 20.0) * x
        image[window][inside] = (colour + shade[..., None])[inside]
    image += random.normal(0.0, 8.0, (side, side, 1))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
