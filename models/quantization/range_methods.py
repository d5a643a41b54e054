"""Three ways to choose the range that uint8 has to cover from what was seen of a tensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.quantization.activation_stats import HISTOGRAM_BINS, Observations

Range = tuple[float, float]

TYPICAL_SHARE = 0.9
UINT8_LEVELS = 256
SHRINKINGS = np.linspace(1.0, 0.3, 36)


def min_max(seen: Observations, name: str) -> Range:
    """All that was seen."""
    return float(seen.lows[name].min()), float(seen.highs[name].max())


def percentile(seen: Observations, name: str) -> Range:
    """What holds all values of nine images in ten: an outlier of the tenth is clipped, for a finer step in all."""
    low = np.quantile(seen.lows[name], 1 - TYPICAL_SHARE)
    return float(low), float(np.quantile(seen.highs[name], TYPICAL_SHARE))


def entropy(low: float, high: float, counts: npt.NDArray[np.int64]) -> Range:
    """The part of [low, high] whose 256 levels keep most of the distribution, by Kullback-Leibler divergence.

    Method: Migacz, "8-bit Inference with TensorRT", 2017, here for ranges that both ends of shrink towards zero.
    """
    if low == high:
        return low, high
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    costs = [_divergence(centres, counts, low * share, high * share) for share in SHRINKINGS]
    share = float(SHRINKINGS[int(np.argmin(costs))])
    return low * share, high * share


def _divergence(centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], low: float, high: float) -> float:
    """Of the clipped distribution from the same in 256 levels, each spread evenly over the bins it stands for."""
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
