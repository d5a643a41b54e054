"""Activation figures from images: ranges chosen in three ways, compared by what they do to the answers, best kept."""

from __future__ import annotations

from models.networks.graph import fingerprint
from models.networks.network import Network
from models.quantization.activation_stats import Observations, histograms, observe
from models.quantization.agreement import agreement, logits_of
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibration_table import PHOTO_DIGITS, Calibration, rounded
from models.quantization.layers import ranged_tensors
from models.quantization.quantize import Recipe
from models.quantization.range_methods import Range, entropy, min_max, percentile
from models.samples import Photos

COMPARED_IMAGES = 96
HISTOGRAM_IMAGES = 64
RANGE_DIGITS, MEAN_DIGITS = 5, 3


def calibrate(network: Network, photos: Photos, threads: int) -> tuple[Calibration, dict[str, float]]:
    """The best calibration on photos, n > 0, and the divergence of each method.

    Methods are ranked by the mean divergence of the int8 model's answers from fp32 on the calibration images.
    """
    compared = photos.pixels[:COMPARED_IMAGES]
    reference = logits_of(fp32_artifact(network), compared, threads)
    divergences = {}
    found = candidate_calibrations(network, photos)
    for calibration in found:
        content = int8_artifact(network, calibration, Recipe("portable"), {})
        divergences[calibration.method] = agreement(logits_of(content, compared, threads), reference).divergence
    return min(found, key=lambda one: divergences[one.method]), divergences


def candidate_calibrations(network: Network, photos: Photos) -> list[Calibration]:
    """One calibration a method, from the same images."""
    pixels = photos.pixels
    seen = observe(network.graph, network.preprocessing.normalisation, pixels)
    counts = histograms(network.graph, network.preprocessing.normalisation, pixels[:HISTOGRAM_IMAGES], seen)
    names = ranged_tensors(network.graph)
    ranges: dict[str, dict[str, Range]] = {
        "min-max": {name: min_max(seen, name) for name in names},
        "percentile": {name: percentile(seen, name) for name in names},
        "entropy": {name: entropy(*min_max(seen, name), counts[name]) for name in names},
    }
    return [_calibration(network, seen, photos, method, chosen) for method, chosen in ranges.items()]


def _calibration(
    network: Network, seen: Observations, photos: Photos, method: str, ranges: dict[str, Range]
) -> Calibration:
    spans = {name: (rounded(low, RANGE_DIGITS), rounded(high, RANGE_DIGITS)) for name, (low, high) in ranges.items()}
    return Calibration(
        fingerprint=fingerprint(network.graph),
        source=photos.told,
        samples=seen.images,
        method=method,
        ranges=spans,
        means={name: tuple(rounded(float(x), MEAN_DIGITS) for x in values) for name, values in seen.means.items()},
        digests=tuple(digest[:PHOTO_DIGITS] for digest in photos.digests),
    )
