"""Weights of one layer in fp64 -> int8 weights and a scale for each output channel."""

from __future__ import annotations

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


def channel_scales(weights: Matrix, weight_range: WeightRange, orders: TapOrders) -> Matrix:
    """The smallest scale of each output channel (row) that the range allows, float64 [channels].

    "full" uses all of int8. "reduced" is the 7 bits that onnxruntime calls reduce_range. "portable" keeps the sum of
    any two weights that are neighbours in one of `orders` at or below 128. Kernels that add two products in an int16
    add those of neighbours, so none saturates, and a row whose largest weights are no neighbours keeps the full range.
    """
    largest: Matrix = np.abs(weights).max(axis=1)
    if weight_range == "reduced":
        return np.asarray(largest / REDUCED_MAXIMUM)
    scales = np.asarray(largest / INT8_MAXIMUM)
    if weight_range == "portable":
        for order in orders:
            first, second = weights[:, order[:-1]], weights[:, order[1:]]
            sums = np.where(first * second > 0, np.abs(first + second), 0.0).max(axis=1, initial=0.0)
            # Rounding may raise each of the two by almost one step.
            scales = np.maximum(scales, sums / (SAFE_PAIR_SUM - 2))
    return scales


def quantize_weights(
    weights: Matrix, bias: Matrix, input_scale: float, scales: Matrix, mean_taps: Matrix
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 values [channels, taps] and scales [channels]; a float64 weight is about value * scale.

    `scales` are those of `channel_scales`, `mean_taps` the mean inputs of the weights, in their shape. A channel whose
    weights are almost zero gets a larger scale: its int32 bias, in units of input_scale * scale, would overflow.
    """
    scales = np.maximum(scales, np.abs(bias) / (input_scale * BIAS_MAXIMUM))
    scales = np.maximum(scales, np.finfo(np.float32).tiny * 1e6)
    rows = [_rounded(row, mean) for row, mean in zip(weights / scales[:, None], mean_taps, strict=True)]
    values = np.clip(np.stack(rows), -INT8_MAXIMUM, INT8_MAXIMUM)
    return values.astype(np.int8), scales.astype(np.float32)


def _rounded(row: Matrix, mean: Matrix) -> Matrix:
    """`row` [taps], in units of its scale, rounded so that the errors, weighted by `mean`, add up to about zero.

    The inputs of a channel vary together from photo to photo, so errors that cancel on the mean input cancel on most
    photos. The weights nearest to half a step are rounded the other way until the sum is as near to zero as possible:
    Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", 2022, weighted by the
    mean input.
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
