"""Statistics of the fp32 network's activations on photos: extremes, means and histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.classifier import Pixels
from models.networks.graph import Graph
from models.networks.onnx_model import network_model
from models.onnx_runtime import open_session, quiet_options
from models.quantization.layers import averaged_tensors, ranged_tensors
from models.spec import Normalisation

IMAGES_PER_RUN = 8
HISTOGRAM_BINS = 2048

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Observations:
    """By tensor, over `images` images: `lows` and `highs` of each image, float32 [images], and the means of each
    channel, float64 [channels]."""

    images: int
    lows: dict[str, Floats]
    highs: dict[str, Floats]
    means: dict[str, npt.NDArray[np.float64]]


def normalised(pixels: Pixels, normalisation: Normalisation) -> Floats:
    """The input of the bare network, float32 [n, 3, side, side], from uint8 [n, side, side, 3]."""
    mean = np.array(normalisation.mean, np.float32)
    std = np.array(normalisation.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2), np.float32)


def observe(graph: Graph, normalisation: Normalisation, pixels: Pixels) -> Observations:
    """Extremes and means of the fp32 network's activations on uint8 [n, side, side, 3], n > 0."""
    names = list(dict.fromkeys(ranged_tensors(graph) + averaged_tensors(graph)))
    lows: dict[str, list[Floats]] = {name: [] for name in names}
    highs: dict[str, list[Floats]] = {name: [] for name in names}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for tensors in _activations(graph, normalisation, pixels, names):
        for name, values in tensors.items():
            flat = values.reshape(len(values), -1)
            lows[name].append(flat.min(axis=1))
            highs[name].append(flat.max(axis=1))
            sums[name] = sums.get(name, 0.0) + _channel_means(values).sum(axis=0)
    return Observations(
        len(pixels),
        {name: np.concatenate(parts) for name, parts in lows.items()},
        {name: np.concatenate(parts) for name, parts in highs.items()},
        {name: sums[name] / len(pixels) for name in averaged_tensors(graph)},
    )


def histograms(
    graph: Graph, normalisation: Normalisation, pixels: Pixels, observations: Observations
) -> dict[str, npt.NDArray[np.int64]]:
    """The histogram of each ranged tensor, int64 [HISTOGRAM_BINS] counts between its extremes in `observations`."""
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for tensors in _activations(graph, normalisation, pixels, ranged_tensors(graph)):
        for name, values in tensors.items():
            extremes = (float(observations.lows[name].min()), float(observations.highs[name].max()))
            counts[name] = counts.get(name, 0) + np.histogram(values, HISTOGRAM_BINS, extremes)[0]
    return counts


def _activations(
    graph: Graph, normalisation: Normalisation, pixels: Pixels, names: Iterable[str]
) -> Iterator[dict[str, Floats]]:
    """The values of the tensors called `names`, for IMAGES_PER_RUN images at a time."""
    outputs = [name for name in names if name != graph.input_name]
    session = open_session(network_model(graph, outputs).SerializeToString(), quiet_options())
    for start in range(0, len(pixels), IMAGES_PER_RUN):
        x = normalised(pixels[start : start + IMAGES_PER_RUN], normalisation)
        values = dict(zip(outputs, session.run(outputs, {graph.input_name: x}), strict=True))
        if graph.input_name in names:
            values[graph.input_name] = x
        yield values


def _channel_means(tensor: Floats) -> npt.NDArray[np.float64]:
    """Means float64 [n, channels] of a tensor [n, channels, ...] or [n, tokens, channels]."""
    if tensor.ndim == 3:
        return np.asarray(tensor.mean(axis=1), np.float64)
    return np.asarray(tensor.reshape(len(tensor), tensor.shape[1], -1).mean(axis=2), np.float64)
