"""Calibration: activation ranges from images by three methods, of which the one nearest to fp32 is kept."""

from __future__ import annotations

from models.networks.graph import fingerprint
from models.networks.network import Network
from models.quantization.activation_stats import histograms, observe
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
    """The best calibration on photos, n > 0, and for each method the mean divergence of its int8 model from fp32 on
    those photos, in nats."""
    compared = photos.pixels[:COMPARED_IMAGES]
    reference = logits_of(fp32_artifact(network), compared, threads)
    divergences = {}
    candidates = candidate_calibrations(network, photos)
    for calibration in candidates:
        content = int8_artifact(network, calibration, Recipe("portable"))
        divergences[calibration.method] = agreement(logits_of(content, compared, threads), reference).divergence
    return min(candidates, key=lambda calibration: divergences[calibration.method]), divergences


def candidate_calibrations(network: Network, photos: Photos) -> list[Calibration]:
    """One calibration for each method, from the same images."""
    graph, normalisation = network.graph, network.preprocessing.normalisation
    observations = observe(graph, normalisation, photos.pixels)
    counts = histograms(graph, normalisation, photos.pixels[:HISTOGRAM_IMAGES], observations)
    names = ranged_tensors(graph)
    ranges: dict[str, dict[str, Range]] = {
        "min-max": {name: min_max(observations, name) for name in names},
        "percentile": {name: percentile(observations, name) for name in names},
        "entropy": {name: entropy(*min_max(observations, name), counts[name]) for name in names},
    }
    return [
        Calibration(
            fingerprint=fingerprint(graph),
            source=photos.description,
            samples=observations.images,
            method=method,
            ranges={
                name: (rounded(low, RANGE_DIGITS), rounded(high, RANGE_DIGITS)) for name, (low, high) in found.items()
            },
            means={
                name: tuple(rounded(float(x), MEAN_DIGITS) for x in means) for name, means in observations.means.items()
            },
            digests=tuple(digest[:PHOTO_DIGITS] for digest in photos.digests),
        )
        for method, found in ranges.items()
    ]
