"""How good taught models are: every figure of docs/teaching.md from folders of classes.

    python benchmarks/teaching.py grocery-train grocery-val [grocery-test]

TRAIN teaches, VALIDATION is what the model is judged, calibrated and certified by, TEST is only looked at in the end.
Prints one JSON line for each model taught.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from jobs.workshop.photos import decoded_sample
from jobs.workshop.teaching import TaughtModel, TeachOptions, teach_model
from jobs.workshop.teaching_photos import folder_labels
from models.artifact import read_artifact
from models.certification.certify import Terms
from models.manifest import cache_folder, read_manifest
from models.onnx_runtime import onnxruntime
from models.quantization.agreement import Logits, accuracy
from models.teaching.confidence import calibration_error, softmax
from models.teaching.photo_set import UNKNOWN, Rows
from pipeline.sources.walk import WalkCounts, WalkRules, walk

SHARE_MISLABELLED = 0.05
SHARE_SUSPECTED = 0.1
IMAGES_PER_RUN = 16
SISTERS_LEFT_OUT = 10


@click.command()
@click.argument("train", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("validation", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("test", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--minutes", type=float, default=10.0, show_default=True)
@click.option("--base", default="efficientnet_lite0", show_default=True)
@click.option("--seeds", type=int, default=3, show_default=True)
@click.option("--unlike", type=click.Path(exists=True, path_type=Path), help="Photos of something quite different.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["seeds", "few", "labels", "sisters", "again"]),
    help="Only these.  [default: all]",
)
def teaching(
    train: Path,
    validation: Path,
    test: Path | None,
    minutes: float,
    base: str,
    seeds: int,
    unlike: Path | None,
    parts: tuple[str, ...],
) -> None:
    """Teach from TRAIN, judge by VALIDATION, and look at TEST."""
    chosen = parts or ("seeds", "few", "labels", "sisters", "again")
    with tempfile.TemporaryDirectory() as name, _cache(Path(name) / "cache"):
        folder = Path(name)
        for seed in range(seeds):
            options = _options(train, validation, minutes, base, seed)
            if "seeds" in chosen:
                taught = _taught(options)
                _print("default", seed, _figures(taught, test, unlike))
            if "few" in chosen:
                for shots in (1, 2, 5, 10):
                    few = _few(train, folder / f"few-{shots}-{seed}", shots, seed)
                    taught = _taught(_options(few, validation, minutes, base, seed))
                    _print(f"{shots} photos a class", seed, _figures(taught, test, None))
            if "labels" in chosen:
                for kind in ("random", "sister"):
                    wrong, moved = _mislabelled(train, folder / f"{kind}-{seed}", kind, seed)
                    taught = _taught(_options(wrong, validation, minutes, base, seed))
                    _print(f"labels wrong: {kind}", seed, {"found": _found(taught, moved)})
            if "sisters" in chosen:
                _print("sister products", seed, _sisters(train, validation, folder / f"sisters-{seed}", options, seed))
        if "again" in chosen:
            _print("taught again", 0, _again(train, validation, folder / "again", minutes, base))


def _options(train: Path, validation: Path | None, minutes: float, base: str, seed: int) -> TeachOptions:
    return TeachOptions(train, "shelf", base, minutes, seed, 0.95, Terms(), held_out=validation, fresh=True)


def _taught(options: TeachOptions) -> TaughtModel:
    return teach_model(options, lambda text: None, lambda done, total: None)


def _print(what: str, seed: int, figures: dict[str, object]) -> None:
    click.echo(json.dumps({"what": what, "seed": seed, **figures}))


def _figures(taught: TaughtModel, test: Path | None, unlike: Path | None) -> dict[str, object]:
    figures, certificate, lesson = taught.figures, taught.certificate, taught.lesson
    found: dict[str, object] = {
        "top1": figures.top1,
        "top3": figures.top3,
        "ece": figures.calibration_error,
        "fp32_top1": certificate.fp32_top1,
        "agreement": certificate.top1_agreement,
        "epochs": lesson.epochs,
        "seconds": round(taught.seconds, 1),
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    if test is not None:
        logits, scores, classes = _run(test, taught)
        right = accuracy(logits, classes)
        found |= {"test_top1": right.top1, "test_top3": right.top3}
        found |= {"test_ece": calibration_error(softmax(logits), classes)}
        found |= {"test_known_kept": float((scores >= lesson.min_familiarity).mean())}
    if unlike is not None:
        _, scores, _ = _run(unlike, taught)
        found |= {"unlike_rejected": float((scores < lesson.min_familiarity).mean())}
    return found


def _run(folder: Path, taught: TaughtModel) -> tuple[Logits, Logits, Rows]:
    """Logits, familiarity and true classes (UNKNOWN where there is none) of a folder's photos, by the int8 model."""
    receipt = read_manifest("shelf")
    assert receipt is not None
    session = onnxruntime.InferenceSession(str(cache_folder() / receipt.int8), providers=["CPUExecutionProvider"])
    artifact = read_artifact(cache_folder() / receipt.int8)
    photos = sorted(decoded_sample(folder, artifact.preprocessing.crop, 0), key=lambda photo: photo.name)
    labels = folder_labels([photo.name for photo in photos])
    ids = {label: index for index, label in enumerate(artifact.labels)}
    outputs: list[tuple[Logits, Logits]] = []
    for start in range(0, len(photos), IMAGES_PER_RUN):
        pixels = np.stack([photo.pixels for photo in photos[start : start + IMAGES_PER_RUN]])
        outputs.append(tuple(session.run(["logits", "familiarity"], {"photos": pixels})))
    classes = np.array([ids.get(labels.get(photo.name, ""), UNKNOWN) for photo in photos], np.int64)
    return np.concatenate([one for one, _ in outputs]), np.concatenate([one for _, one in outputs]), classes


def _by_class(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    refs = list(walk(folder.resolve(), WalkRules(), WalkCounts()))
    labels = folder_labels([ref.name for ref in refs])
    found: dict[str, list[tuple[str, Path]]] = {}
    for ref in refs:
        if ref.name in labels:
            found.setdefault(labels[ref.name], []).append((ref.name, Path(ref.path)))
    return found


def _copy(source: Path, folder: Path, label: str) -> str:
    """Put a photo into a class's folder: its name there."""
    place = folder / label / source.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(source.read_bytes())
    return f"{label}/{source.name}"


def _few(train: Path, folder: Path, shots: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    for label, photos in _by_class(train).items():
        for index in random.permutation(len(photos))[:shots]:
            _copy(photos[int(index)][1], folder, label)
    return folder


def _mislabelled(train: Path, folder: Path, kind: str, seed: int) -> tuple[Path, set[str]]:
    """A copy of TRAIN with some photos in the folder of another class, and the names of those photos there."""
    random = np.random.default_rng(seed)
    photos = [(label, path) for label, found in _by_class(train).items() for _, path in found]
    labels = sorted({label for label, _ in photos})
    moved = set()
    chosen = set(random.permutation(len(photos))[: round(SHARE_MISLABELLED * len(photos))].tolist())
    for index, (label, path) in enumerate(photos):
        if index not in chosen:
            _copy(path, folder, label)
        else:
            others = [one for one in labels if one != label]
            # Products of one maker or kind share the beginnings of their names.
            sisters = [one for one in others if one.split("-")[0] == label.split("-")[0]] if kind == "sister" else []
            moved.add(_copy(path, folder, str(random.choice(sisters or others))))
    return folder, moved


def _found(taught: TaughtModel, moved: set[str]) -> float:
    """The share of the photos moved to a wrong class that are among the most suspicious ones."""
    names, doubts = taught.decoded.photos.names, taught.lesson.doubts
    suspected = np.argsort(-doubts, kind="stable")[: round(SHARE_SUSPECTED * len(names))]
    return len(moved & {names[row] for row in suspected}) / len(moved)


def _sisters(train: Path, validation: Path, folder: Path, options: TeachOptions, seed: int) -> dict[str, object]:
    """Leave some classes with sisters out of teaching: which share of their photos is rejected as unfamiliar?"""
    photos = _by_class(train)
    with_sisters = [one for one in photos if sum(other.split("-")[0] == one.split("-")[0] for other in photos) > 1]
    left_out = set(np.random.default_rng(seed).permutation(sorted(with_sisters))[:SISTERS_LEFT_OUT].tolist())
    for label, found in photos.items():
        for _, path in found:
            _copy(path, folder / ("sisters" if label in left_out else "taught"), label)
    for label, found in _by_class(validation).items():
        for _, path in found:
            if label not in left_out:
                _copy(path, folder / "judges", label)
    taught = _taught(_options(folder / "taught", folder / "judges", options.minutes, options.base, options.seed))
    _, scores, _ = _run(folder / "sisters", taught)
    return {"rejected": float((scores < taught.lesson.min_familiarity).mean()), "left_out": sorted(left_out)}


def _again(train: Path, validation: Path, folder: Path, minutes: float, base: str) -> dict[str, object]:
    """Teach all but ten photos, then all of them."""
    photos = [(label, path) for label, found in _by_class(train).items() for _, path in found]
    late = set(np.random.default_rng(0).permutation(len(photos))[:10].tolist())
    for index, (label, path) in enumerate(photos):
        if index not in late:
            _copy(path, folder, label)
    first = _taught(TeachOptions(folder, "shelf", base, minutes, 0, 0.95, Terms(), held_out=validation))
    for index in late:
        _copy(photos[index][1], folder, photos[index][0])
    started_s = time.monotonic()
    second = _taught(TeachOptions(folder, "shelf", base, minutes, 0, 0.95, Terms(), held_out=validation))
    return {
        "seconds": round(time.monotonic() - started_s, 1),
        "only_head": second.lesson.only_head,
        "top1_before": first.figures.top1,
        "top1": second.figures.top1,
    }


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """A cache of models that is thrown away, here and in the processes that are started."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


if __name__ == "__main__":
    teaching()
