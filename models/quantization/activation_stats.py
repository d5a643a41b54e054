"""What the fp32 network's activations are like on photos: extremes, means, histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.classifier import Pixels
from models.networks.classifier_head import network_model
from models.networks.graph import Graph
from models.onnx_runtime import onnxruntime
from models.quantization.layers import averaged_tensors, ranged_tensors
from models.spec import Normalisation

IMAGES_PER_RUN = 8
HISTOGRAM_BINS = 2048

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Observations:
    """Per tensor, over `images` images: `lows` and `highs` float32 [images], and `means` float64 [channels]."""

    images: int
    lows: dict[str, Floats]
    highs: dict[str, Floats]
    means: dict[str, npt.NDArray[np.float64]]


def normalised(pixels: Pixels, normalisation: Normalisation) -> Floats:
    """uint8 [n, side, side, 3] -> what the bare network reads, float32 [n, 3, side, side]."""
    mean = np.array(normalisation.mean, np.float32)
    std = np.array(normalisation.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2), np.float32)


def observe(graph: Graph, normalisation: Normalisation, pixels: Pixels) -> Observations:
    """Run the fp32 network over uint8 [n, side, side, 3], n > 0."""
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
    graph: Graph, normalisation: Normalisation, pixels: Pixels, seen: Observations
) -> dict[str, npt.NDArray[np.int64]]:
    """Counts int64 [HISTOGRAM_BINS] of each ranged tensor's values, between the lowest and highest in `seen`."""
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for tensors in _activations(graph, normalisation, pixels, ranged_tensors(graph)):
        for name, values in tensors.items():
            span = (float(seen.lows[name].min()), float(seen.highs[name].max()))
            found = np.histogram(values, HISTOGRAM_BINS, span)[0]
            counts[name] = counts.get(name, 0) + found
    return counts


def _activations(
    graph: Graph, normalisation: Normalisation, pixels: Pixels, names: Iterable[str]
) -> Iterator[dict[str, Floats]]:
    outputs = [name for name in names if name != graph.input_name]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = network_model(graph, outputs).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for start in range(0, len(pixels), IMAGES_PER_RUN):
        x = normalised(pixels[start : start + IMAGES_PER_RUN], normalisation)
        values = dict(zip(outputs, session.run(outputs, {graph.input_name: x}), strict=True))
        if graph.input_name in names:
            values[graph.input_name] = x
        yield values


def _channel_means(tensor: Floats) -> npt.NDArray[np.float64]:
    """[n, channels, ...] -> [n, channels]; [n, tokens, channels] -> [n, channels]."""
    if tensor.ndim == 3:
        return np.asarray(tensor.mean(axis=1), np.float64)
    return np.asarray(tensor.reshape(len(tensor), tensor.shape[1], -1).mean(axis=2), np.float64)
