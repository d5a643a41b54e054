"""The CPU time of opening a photo, and whether decoding fewer pixels changes its label.

    python benchmarks/decoding.py                 the photos that scikit-image ships
    python benchmarks/decoding.py photos/         your own

Each photo is opened in its own size (the shipped ones at 0.19 megapixels) and at 12 megapixels, in three ways that take
turns in one thread: by label-dir, by label-dir without scaled decoding (every pixel decoded), and by torchvision's
usual transforms. Then the labels with and without scaled decoding are compared: of all photos, and of the sure ones,
whose two likeliest classes differ by more than 0.1. Where those are almost equal, any changed pixel decides.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sample_photos import make_folder, source_photos

from models.artifact import Artifact
from models.cache import ensure_artifact
from models.spec import Preprocessing
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.sources.read_file import ReadLimits

_SMALL, _LARGE = 0.19, 12.0
_BATCH_SIZE = 16
_SURE_BY = 0.1


@dataclass(frozen=True, slots=True)
class Costs:
    """Mean CPU milliseconds per photo of the three ways; the shares of all and of sure photos that keep their label."""

    ours_ms: float
    every_pixel_ms: float
    torchvision_ms: float
    same_label: float
    same_label_where_sure: float


def torchvision_transforms(preprocessing: Preprocessing) -> Callable[[Path], object]:
    """The steps of torchvision's documentation: open, convert, resize, crop, to tensor, normalise."""
    from PIL import Image
    from torchvision import transforms

    steps = transforms.Compose(
        [
            transforms.Resize(
                preprocessing.crop.resize_size, transforms.InterpolationMode(preprocessing.crop.interpolation)
            ),
            transforms.CenterCrop(preprocessing.crop.crop_size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.normalisation.mean, preprocessing.normalisation.std),
        ]
    )
    return lambda photo: steps(Image.open(photo).convert("RGB"))


def best_labels(artifact: Artifact, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The likeliest class of each photo of uint8 [n, side, side, 3], int32 [n], and whether it is sure, bool [n]."""
    from models.classifier import Classifier

    classifier = Classifier(artifact.path, 1, 2)
    batches = [pixels[start : start + _BATCH_SIZE] for start in range(0, len(pixels), _BATCH_SIZE)]
    answers = [classifier.classify(batch) for batch in batches]
    lead = np.concatenate([answer.probabilities[:, 0] - answer.probabilities[:, 1] for answer in answers])
    return np.concatenate([answer.ids[:, 0] for answer in answers]), lead > _SURE_BY


def measure(artifact: Artifact, photos: list[Path]) -> Costs:
    """The costs of opening every photo in the three ways, in turn."""
    side = artifact.preprocessing.crop.crop_size
    short, full = (np.zeros((len(photos), side, side, 3), np.uint8) for _ in range(2))
    theirs = torchvision_transforms(artifact.preprocessing)

    def ours(rules: DecodeRules, pixels: NDArray[np.uint8]) -> Callable[[Path], object]:
        return lambda photo: decode_bytes(photo.read_bytes(), rules, pixels)

    spent_s = np.zeros(3)
    for index, photo in enumerate(photos):
        rules = [DecodeRules(artifact.preprocessing.crop, ReadLimits(), scaled) for scaled in (True, False)]
        ways = [ours(rules[0], short[index]), ours(rules[1], full[index]), theirs]
        if index == 0:
            for way in ways:
                way(photo)
        for number in np.roll(range(len(ways)), index):
            began_s = time.thread_time()
            ways[number](photo)
            spent_s[number] += time.thread_time() - began_s
    (short_labels, _), (full_labels, is_sure) = best_labels(artifact, short), best_labels(artifact, full)
    same = short_labels == full_labels
    ours_ms, every_pixel_ms, torchvision_ms = (spent_s / len(photos) * 1000).tolist()
    return Costs(ours_ms, every_pixel_ms, torchvision_ms, float(same.mean()), float(same[is_sure].mean()))


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=400, show_default=True, help="Photos at most.")
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def decoding(photos: Path | None, count: int, model: str) -> None:
    """Measure the costs of opening PHOTOS, in their own size and at 12 megapixels."""
    import torch

    torch.set_num_threads(1)
    artifact = ensure_artifact(model, click.echo)
    source = source_photos(photos)[:count]
    click.echo(
        "| photos | CPU ms per photo | every pixel decoded | torchvision | ratio | same best label | of sure ones |"
    )
    click.echo("|---|---|---|---|---|---|---|")
    for megapixels in (_SMALL if photos is None else None, _LARGE):
        with tempfile.TemporaryDirectory() as scratch:
            folder = make_folder(Path(scratch) / "photos", source, len(source), megapixels)
            costs = measure(artifact, sorted(folder.iterdir()))
        size = f"{megapixels:g} megapixels" if megapixels else "as they are"
        click.echo(
            f"| {len(source)}, {size} | {costs.ours_ms:.2f} | {costs.every_pixel_ms:.1f} | {costs.torchvision_ms:.1f} "
            f"| {costs.ours_ms / costs.torchvision_ms:.2f} | {costs.same_label:.2%} "
            f"| {costs.same_label_where_sure:.2%} |"
        )


if __name__ == "__main__":
    decoding()
