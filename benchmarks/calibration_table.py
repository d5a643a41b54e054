"""Makes the calibration table that label-dir ships for a model of the zoo.

    python benchmarks/calibration_table.py efficientnet_lite0 photos/

The ranges come from half of the photos; the other half measures the int8 model. photos.csv gives the true labels.
"""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import click

from jobs.workshop.photos import decoded_sample, photos_of
from models.networks.trained_networks import published
from models.quantization.agreement import accuracy, agreement, logits_of
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import calibrate
from models.quantization.calibration_table import rounded
from models.quantization.quantize import Recipe

SEED = 3
THREADS = 2


@click.command()
@click.argument("name")
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
def calibration_table(name: str, photos: Path) -> None:
    """Calibrate model NAME on half of PHOTOS and write its table into models/data."""
    network = published(name).network
    drawn = list(decoded_sample(photos, network.preprocessing.crop, SEED))
    half = len(drawn) // 2
    used = photos_of(drawn[:half], photos, "", network.labels)
    held_out = photos_of(drawn[half:], photos, " kept out of calibration", network.labels)
    assert used is not None and held_out is not None
    used = dataclasses.replace(used, description=f"{half} photos of ImageNet's training set, each of another class")
    calibration, divergences = calibrate(network, used, THREADS)
    print("divergence on the calibration photos:", {method: round(value, 4) for method, value in divergences.items()})
    fp32 = logits_of(fp32_artifact(network), held_out.pixels, THREADS)
    int8 = logits_of(int8_artifact(network, calibration, Recipe("portable")), held_out.pixels, THREADS)
    found = agreement(int8, fp32)
    print(found)
    if held_out.classes is not None:
        print("int8", accuracy(int8, held_out.classes), "fp32", accuracy(fp32, held_out.classes))
    validation = {
        "photos": found.images,
        "told": f"{found.images} photos kept out of calibration",
        "top1": found.top1,
        "top3": found.top3,
        "divergence": rounded(found.divergence, 4),
    }
    table = dataclasses.replace(calibration, validation=validation)
    path = Path(str(resources.files("models.data"))) / f"{name}.calibration.json"
    path.write_text(table.to_json() + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    calibration_table()
