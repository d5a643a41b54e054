"""int8 against fp32 on photos kept out of calibration: every recipe and method, in two folds, and the speed of each.

    python benchmarks/quantization.py efficientnet_lite0 photos/

Each half of the photos is classified by a model that was calibrated on the other half, so that all photos count.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

from jobs.workshop.photos import decoded_sample, photos_of
from models.certification.certify import Terms, alternating_speeds
from models.networks.network import Network
from models.networks.trained_networks import published
from models.quantization.agreement import accuracy, agreement, logits_of
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import candidate_calibrations
from models.quantization.quantize import Recipe
from models.quantization.weight_rounding import WeightRange
from models.samples import Photos
from models.system.cpu_kind import this_cpu

SEED = 3
THREADS = 2
RANGES: tuple[WeightRange, ...] = ("portable", "full", "reduced")


def folds(photos: Photos) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of masks bool [n], for calibrating and for measuring; each photo is measured once."""
    even = np.arange(len(photos.pixels)) % 2 == 0
    return [(even, ~even), (~even, even)]


def compare(network: Network, photos: Photos) -> dict[str, bytes]:
    """The last int8 model of each weight range; prints a line for each method and weight range."""
    fp32 = logits_of(fp32_artifact(network), photos.pixels, THREADS)
    true = photos.classes
    if true is not None:
        print(f"fp32: {accuracy(fp32, true)}")
    calibrations = [candidate_calibrations(network, Photos(photos.pixels[used], "")) for used, _ in folds(photos)]
    models: dict[str, bytes] = {}
    for index, method in enumerate(calibration.method for calibration in calibrations[0]):
        for weight_range in RANGES:
            logits = np.zeros_like(fp32)
            for calibration, (_, measured) in zip(calibrations, folds(photos), strict=True):
                models[weight_range] = int8_artifact(network, calibration[index], Recipe(weight_range))
                logits[measured] = logits_of(models[weight_range], photos.pixels[measured], THREADS)
            found = agreement(logits, fp32)
            right = f" {accuracy(logits, true)}" if true is not None else ""
            print(f"{method}, {weight_range}: agreement {found.top1:.2%}, divergence {found.divergence:.5f}{right}")
    return models


@click.command()
@click.argument("name")
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
def quantization(name: str, photos: Path) -> None:
    """Compare recipes for model NAME on PHOTOS."""
    print(this_cpu())
    network = published(name).network
    drawn = photos_of(list(decoded_sample(photos, network.preprocessing.crop, SEED)), photos, "", network.labels)
    assert drawn is not None
    models = {**compare(network, drawn), "fp32": fp32_artifact(network)}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for key, content in models.items():
            paths.append(Path(folder) / f"{key}.onnx")
            paths[-1].write_bytes(content)
        for threads in range(1, THREADS + 1):
            speeds = dict(zip(models, alternating_speeds(paths, Terms(threads=threads, rounds=25)), strict=True))
            for key in models:
                ratio, share = speeds[key] / speeds["fp32"], len(models[key]) / len(models["fp32"])
                print(
                    f"{key}, {threads} threads: {speeds[key]:.1f} images/s, {ratio:.2f} x fp32, {share:.1%} of its size"
                )


if __name__ == "__main__":
    quantization()
