"""What a classifier is, before any file of it exists: preprocessing, labels and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From a decoded photo to the uint8 square a model reads; mean and std stay inside the graph.

    `resize_size` is the shortest side after resizing and `crop_size` the side of the centre crop, in pixels.
    `mean` and `std` are per RGB channel, in units of 0..255.
    """

    resize_size: int
    crop_size: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Weights shipped as a file inside an installed package, found without importing it and pinned by sha256."""

    distribution: str
    file_name_suffix: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry of the zoo: `architecture` names the code that builds the network, `categories` its label list."""

    name: str
    architecture: str
    preprocessing: Preprocessing
    categories: str
    weights: WeightsFile
