"""What is known of classifiers before one is built: the defaults of a run, preprocessing, where weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The model of a run that names none, and what runs it: onnxruntime's integers are the same on every CPU.
DEFAULT_MODEL = "efficientnet_lite0"
DEFAULT_ENGINE = "onnxruntime"
DEFAULT_TOP_K = 3
DEFAULT_BATCH_SIZE = 4

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, slots=True)
class Crop:
    """From a decoded photo to the uint8 square that a model reads: the geometry, all that a decoder needs to know.

    `resize_size` is the shortest side after resizing and `crop_size` the side of the centre crop, in pixels.
    """

    resize_size: int
    crop_size: int
    interpolation: Interpolation


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The `mean` subtracted from and the `std` that divides each RGB channel, in units of 0..255; part of the graph."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From a decoded photo to the input of a network: the crop outside the graph, the normalisation inside."""

    crop: Crop
    normalisation: Normalisation


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights inside the installed package `distribution`, pinned by its sha256."""

    distribution: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the zoo. `name` is also that of its architecture; its classes are ImageNet's."""

    name: str
    preprocessing: Preprocessing
    weights: WeightsFile
