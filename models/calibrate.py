"""Activation ranges and means: measured on photos, or read from the table committed for a model of the zoo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt
import onnxruntime

from models.calibration import Calibration, rounded
from models.graph import Graph, fingerprint
from models.head import network_model
from models.layers import averaged_tensors, ranged_tensors
from models.spec import Preprocessing

IMAGES_PER_RUN = 8
RANGE_DIGITS, MEAN_DIGITS = 5, 3

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Observations:
    """For each tensor, over the images seen: `lows` and `highs` float32 [images], and `means` float64 [channels]."""

    images: int
    lows: dict[str, Floats]
    highs: dict[str, Floats]
    means: dict[str, npt.NDArray[np.float64]]


def normalised(pixels: Pixels, preprocessing: Preprocessing) -> Floats:
    """uint8 [n, side, side, 3] -> what the bare network reads, float32 [n, 3, side, side]."""
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2), np.float32)


def observe(graph: Graph, preprocessing: Preprocessing, batches: Iterable[Pixels]) -> Observations:
    """Run the fp32 network over uint8 [n, side, side, 3] batches. Raises ValueError where there is no image at all."""
    names = list(dict.fromkeys(ranged_tensors(graph) + averaged_tensors(graph)))
    outputs = [name for name in names if name != graph.input_name]
    session = onnxruntime.InferenceSession(network_model(graph, outputs).SerializeToString(), _quiet())
    lows: dict[str, list[Floats]] = {name: [] for name in names}
    highs: dict[str, list[Floats]] = {name: [] for name in names}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    images = 0
    for batch in batches:
        for start in range(0, len(batch), IMAGES_PER_RUN):
            x = normalised(batch[start : start + IMAGES_PER_RUN], preprocessing)
            tensors = dict(zip(outputs, session.run(outputs, {graph.input_name: x}), strict=True))
            tensors[graph.input_name] = x
            images += len(x)
            for name in names:
                flat = tensors[name].reshape(len(x), -1)
                lows[name].append(flat.min(axis=1))
                highs[name].append(flat.max(axis=1))
                sums[name] = sums.get(name, 0.0) + _channel_means(tensors[name]).sum(axis=0)
    if images == 0:
        raise ValueError("no image to calibrate on")
    return Observations(
        images,
        {name: np.concatenate(parts) for name, parts in lows.items()},
        {name: np.concatenate(parts) for name, parts in highs.items()},
        {name: sums[name] / images for name in averaged_tensors(graph)},
    )


def calibration_from(graph: Graph, seen: Observations, source: str, quantile: float) -> Calibration:
    """Ranges that hold all of an image's values for this share of the images; 1.0 is plain min-max."""
    ranges = {
        name: (
            rounded(float(np.quantile(seen.lows[name], 1 - quantile)), RANGE_DIGITS),
            rounded(float(np.quantile(seen.highs[name], quantile)), RANGE_DIGITS),
        )
        for name in ranged_tensors(graph)
    }
    means = {name: tuple(rounded(float(x), MEAN_DIGITS) for x in values) for name, values in seen.means.items()}
    method = "min-max" if quantile == 1.0 else f"extremes of {quantile:.0%} of the images"
    return Calibration(fingerprint(graph), source, seen.images, method, ranges, means)


def committed_calibration(name: str) -> Calibration:
    """The table that the zoo carries for a model."""
    table = resources.files("models.data").joinpath(f"{name}.calibration.json")
    return Calibration.from_json(table.read_text(encoding="utf-8"))


def _channel_means(tensor: Floats) -> npt.NDArray[np.float64]:
    """[n, channels, ...] -> [n, channels]; [n, tokens, channels] -> [n, channels]."""
    if tensor.ndim == 3:
        return np.asarray(tensor.mean(axis=1), np.float64)
    return np.asarray(tensor.reshape(len(tensor), tensor.shape[1], -1).mean(axis=2), np.float64)


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options
