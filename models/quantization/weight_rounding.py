"""float weights of one layer -> int8 weights, a scale for each output channel, and what rounding did to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

WeightRange = Literal["full", "portable", "reduced"]

INT8_MAXIMUM = 127
REDUCED_MAXIMUM = 63
# vpmaddubsw adds two uint8 * int8 products in an int16: 255 * (w1 + w2) stays below 32768 up to this sum.
SAFE_PAIR_SUM = 128
BIAS_MAXIMUM = 2.0**30

Matrix = npt.NDArray[np.float64]
TapOrders = tuple[npt.NDArray[np.intp], ...]


@dataclass(frozen=True, slots=True)
class QuantizedWeights:
    """`values` int8 [channels, taps], `scales` float32 [channels]; weight is about scale * value."""

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


def channel_scales(weights: Matrix, weight_range: WeightRange, orders: TapOrders) -> Matrix:
    """The smallest scale of each output channel (row) that the range allows: float64 [channels].

    "full" uses all of int8. "reduced" is the 7 bits that onnxruntime calls reduce_range. "portable" lets no two weights
    that are neighbours in one of `orders` add up to more than 128: kernels that add products in pairs of int16 add
    neighbours, so none of them saturates, and a row whose largest weights lie apart keeps the full range.
    """
    largest: Matrix = np.abs(weights).max(axis=1)
    if weight_range == "reduced":
        return np.asarray(largest / REDUCED_MAXIMUM)
    scales = np.asarray(largest / INT8_MAXIMUM)
    if weight_range == "portable":
        for order in orders:
            first, second = weights[:, order[:-1]], weights[:, order[1:]]
            sums = np.where(first * second > 0, np.abs(first + second), 0.0).max(axis=1, initial=0.0)
            # Each of the two may be rounded up by almost a step.
            scales = np.maximum(scales, sums / (SAFE_PAIR_SUM - 2))
    return scales


def quantize_weights(
    weights: Matrix, bias: Matrix, input_scale: float, scales: Matrix, mean_taps: Matrix
) -> QuantizedWeights:
    """int8 weights for float64 [channels, taps] weights and the scales that their range allows; `mean_taps` of the
    weights' shape is each tap's mean input.

    A channel of nearly dead weights gets a scale that keeps its int32 bias, in units of input_scale * scale, from
    overflowing.
    """
    scales = np.maximum(scales, np.abs(bias) / (input_scale * BIAS_MAXIMUM))
    scales = np.maximum(scales, np.finfo(np.float32).tiny * 1e6)
    rows = [_rounded(row, mean) for row, mean in zip(weights / scales[:, None], mean_taps, strict=True)]
    values = np.clip(np.stack(rows), -INT8_MAXIMUM, INT8_MAXIMUM)
    return QuantizedWeights(values.astype(np.int8), scales.astype(np.float32))


def _rounded(row: Matrix, mean: Matrix) -> Matrix:
    """Real weights [taps] in steps -> whole ones whose errors cancel on the mean input, each still within one step.

    What photos have in common moves all inputs of a channel together, so errors that cancel on the mean cancel on most
    photos. Those nearest to half a step are rounded the other way, until the sum is as near to zero as it gets: Guo et
    al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", 2022, weighted by the mean.
    """
    whole: Matrix = np.rint(row)
    errors = whole - row
    excess = float((errors * mean).sum())
    movable = np.flatnonzero((np.sign(errors * mean) == np.sign(excess)) & (mean != 0))
    order = movable[np.argsort(-np.abs(errors[movable]), kind="stable")]
    removed = np.concatenate([[0.0], np.cumsum(np.abs(mean[order]))])
    count = int(np.argmin(np.abs(abs(excess) - removed)))
    moved = order[:count]
    whole[moved] -= np.sign(errors[moved])
    return whole
