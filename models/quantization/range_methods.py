"""Three methods to choose the range of a tensor that uint8 has to cover, from statistics of its values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.quantization.activation_stats import HISTOGRAM_BINS, Observations

Range = tuple[float, float]

TYPICAL_SHARE = 0.9
UINT8_LEVELS = 256
SHRINKINGS = np.linspace(1.0, 0.3, 36)


def min_max(observations: Observations, name: str) -> Range:
    """The lowest and the highest value of the tensor on any image."""
    return float(observations.lows[name].min()), float(observations.highs[name].max())


def percentile(observations: Observations, name: str) -> Range:
    """The range of all values in nine images of ten; outliers of the tenth are clipped, for finer steps in all.

    Method: Wu et al., "Integer Quantization for Deep Learning Inference", 2020, here by image instead of by value.
    """
    low = np.quantile(observations.lows[name], 1 - TYPICAL_SHARE)
    return float(low), float(np.quantile(observations.highs[name], TYPICAL_SHARE))


def entropy(low: float, high: float, counts: npt.NDArray[np.int64]) -> Range:
    """The range whose 256 levels lose least of the distribution, measured by Kullback-Leibler divergence.

    `counts` are the tensor's histogram over [low, high], int64 [HISTOGRAM_BINS]. Method: Migacz, "8-bit Inference with
    TensorRT", 2017, here for ranges with two ends: both are multiplied by the same factor from SHRINKINGS.
    """
    if low == high:
        return low, high
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    costs = [_divergence(centres, counts, low * share, high * share) for share in SHRINKINGS]
    share = float(SHRINKINGS[int(np.argmin(costs))])
    return low * share, high * share


def _divergence(centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], low: float, high: float) -> float:
    """The divergence, in nats, of the distribution clipped to [low, high] from its form in 256 levels, each spread
    evenly over its non-empty bins."""
    low, high = min(low, 0.0), max(high, 1e-12)
    inside = (centres >= low) & (centres <= high)
    if not counts[inside].any():
        return float("inf")
    kept = np.where(inside, counts, 0).astype(np.float64)
    wanted = kept.copy()
    wanted[np.flatnonzero(inside)[0]] += counts[centres < low].sum()
    wanted[np.flatnonzero(inside)[-1]] += counts[centres > high].sum()
    levels = np.clip((centres - low) / (high - low) * (UINT8_LEVELS - 1) + 0.5, 0, UINT8_LEVELS - 1).astype(np.int64)
    filled = kept > 0
    totals = np.bincount(levels, np.where(filled, kept, 0), UINT8_LEVELS)
    members = np.bincount(levels, filled, UINT8_LEVELS)
    spread = np.where(filled, totals[levels] / np.maximum(members[levels], 1), 0)
    both = (wanted > 0) & (spread > 0)
    p, q = wanted[both] / wanted.sum(), spread[both] / max(spread.sum(), 1)
    return float((p * np.log(p / q)).sum())
