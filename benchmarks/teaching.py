"""How good taught models are: every figure of docs/teaching.md from folders of classes.

    python benchmarks/teaching.py grocery-train grocery-val [grocery-test] --unlike photos/

TRAIN teaches, VALIDATION judges, calibrates and certifies, TEST is only looked at. Each model taught is a line of JSON;
with `--results FILE` the line is kept there, and that model is not taught again. On a busy machine, run parts with
--only and --seeds, and with --epochs instead of minutes. The lines at the end are means over the seeds, beside what is
wanted.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import teaching_folders as folders
from results import write_result
from teaching_wanted import chance_error, table, texts

from jobs.workshop.photos import decoded_sample
from jobs.workshop.teaching import TaughtModel, TeachOptions, teach_model
from jobs.workshop.teaching_files import folder_labels
from models.artifact import read_artifact
from models.certification.certify import Terms
from models.manifest import cache_folder, read_manifest
from models.onnx_runtime import onnxruntime
from models.quantization.agreement import Logits, accuracy
from models.system.cpu_kind import this_cpu
from models.teaching.confidence import calibration_error, softmax
from models.teaching.photo_set import UNKNOWN, Rows

SHARE_SUSPECTED = 0.1
IMAGES_PER_RUN = 16
FIRST_LOOK_MINUTES, FIRST_LOOK_EPOCHS = 2.0, 3.0


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured with: the folders, a folder for copies, and the options of all models."""

    train: Path
    validation: Path
    test: Path | None
    unlike: Path | None
    scratch: Path
    options: TeachOptions


def whole(task: Task) -> dict[str, Any]:
    """Teach with all photos."""
    return _figures(_taught(task.options), task)


def with_few(shots: int) -> Callable[[Task], dict[str, Any]]:
    """Teach with so many photos of each class."""

    def measure(task: Task) -> dict[str, Any]:
        few = _of(task, folders.few(task.train, task.scratch, shots, task.options.seed))
        # With few photos the plan has many epochs, and they are short.
        return whole(replace(few, options=replace(few.options, epochs=None)))

    return measure


def wrong_labels(to_sisters: bool) -> Callable[[Task], dict[str, Any]]:
    """Which share of the photos in a wrong folder are among the most suspicious ones."""

    def measure(task: Task) -> dict[str, Any]:
        moved = folders.mislabelled(task.train, task.scratch, to_sisters, task.options.seed)
        taught = _taught(_of(task, task.scratch).options)
        names = taught.decoded.photos.names
        suspected = np.argsort(-taught.lesson.doubts, kind="stable")[: round(SHARE_SUSPECTED * len(names))]
        return {"found": len(moved & {names[row] for row in suspected}) / len(moved), "moved": len(moved)}

    return measure


def sister_products(task: Task) -> dict[str, Any]:
    """Leave classes with sisters out of teaching: which share of their photos is rejected as unfamiliar.

    The threshold keeps 95% of the known photos of the validation, so its photos of sisters are a fair question; those
    of TRAIN were taken where the taught photos were.
    """
    left_out = folders.without_some(task.train, task.validation, task.scratch, task.options.seed)
    taught = _taught(replace(task.options, folder=task.scratch / "taught", held_out=task.scratch / "judges"))
    found: dict[str, Any] = {"left_out": left_out}
    for folder, where in (("sisters of judges", ""), ("sisters of taught", "_where_taught")):
        logits, scores, _ = _run(task.scratch / folder)
        unsure = softmax(logits).max(axis=1) < taught.lesson.min_probability
        unfamiliar = scores < taught.lesson.min_familiarity
        found |= {f"rejected{where}": float(unfamiliar.mean()), f"unsure{where}": float((unfamiliar | unsure).mean())}
        found[f"photos{where}"] = len(scores)
    return found


def ten_more(task: Task) -> dict[str, Any]:
    """Teach all but ten photos, then all of them."""
    late = folders.all_but_late(task.train, task.scratch, task.options.seed)
    options = replace(task.options, folder=task.scratch, fresh=False)
    first = _taught(options)
    folders.add(late, task.scratch)
    began_s = time.monotonic()
    second = _taught(options)
    return {
        "seconds": round(time.monotonic() - began_s, 1),
        "only_head": second.lesson.only_head,
        "top1_before": first.figures.top1,
        "top1": second.figures.top1,
    }


def changed(**changes: Any) -> Callable[[Task], dict[str, Any]]:
    """Teach with all photos and other options."""
    return lambda task: whole(replace(task, options=replace(task.options, **changes)))


def first_look(task: Task) -> dict[str, Any]:
    """Teach in two minutes, or in as few epochs as those hold where epochs are fixed."""
    epochs = None if task.options.epochs is None else FIRST_LOOK_EPOCHS
    return changed(minutes=FIRST_LOOK_MINUTES, epochs=epochs)(task)


PARTS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "default": whole,
    "first look": first_look,
    "lite2": changed(base="efficientnet_lite2", minutes=20.0),
    "1 photo a class": with_few(1),
    "2 photos a class": with_few(2),
    "5 photos a class": with_few(5),
    "10 photos a class": with_few(10),
    "sister products": sister_products,
    "labels wrong at random": wrong_labels(to_sisters=False),
    "labels wrong by a sister": wrong_labels(to_sisters=True),
    "ten photos more": ten_more,
    "without bfloat16": changed(bfloat16=False),
    "quantization-aware": changed(is_quantization_aware=True),
    "less memory": changed(memory_mb=500.0),
}


@click.command()
@click.argument("train", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("validation", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("test", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--minutes", type=float, default=10.0, show_default=True)
@click.option("--epochs", type=float, help="So many, however long they take; the first look then has 3.")
@click.option("--base", default="efficientnet_lite0", show_default=True)
@click.option("--seeds", type=int, default=3, show_default=True)
@click.option("--unlike", type=click.Path(exists=True, path_type=Path), help="Photos of something quite different.")
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Only these parts.  [default: all]")
@click.option("--results", type=click.Path(path_type=Path), help="Lines measured before; new ones are added.")
@click.option("--record", is_flag=True, help="Write benchmarks/results/teaching.json, whose texts the manual has.")
def teaching(
    train: Path,
    validation: Path,
    test: Path | None,
    minutes: float,
    epochs: float | None,
    base: str,
    seeds: int,
    unlike: Path | None,
    only: tuple[str, ...],
    results: Path | None,
    record: bool,
) -> None:
    """Teach from TRAIN, judge by VALIDATION, and look at TEST."""
    before = results.read_text(encoding="utf-8").splitlines() if results and results.exists() else []
    lines: list[dict[str, Any]] = [json.loads(line) for line in before]
    for seed in range(seeds):
        for part in only or PARTS:
            key = {"part": part, "seed": seed, "minutes": minutes, "epochs": epochs, "base": base}
            if any(key.items() <= line.items() for line in lines):
                continue
            with tempfile.TemporaryDirectory() as name, _cache(Path(name) / "cache"):
                options = TeachOptions(
                    train, "shelf", base, minutes, seed, 0.95, Terms(), held_out=validation, fresh=True, epochs=epochs
                )
                task = Task(train, validation, test, unlike, Path(name) / "copies", options)
                line = {**key, **PARTS[part](task), "cpu": this_cpu().name, "at": time.strftime("%F %H:%M")}
            lines.append(line)
            click.echo(json.dumps(line))
            if results is not None:
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    for text in table(lines):
        click.echo(text)
    if record:
        click.echo(f"-> {write_result('teaching', {'lines': lines}, texts(lines))}")


def _of(task: Task, folder: Path) -> Task:
    return replace(task, options=replace(task.options, folder=folder))


def _taught(options: TeachOptions) -> TaughtModel:
    return teach_model(options, lambda text: None, lambda done, total: None)


def _figures(taught: TaughtModel, task: Task) -> dict[str, Any]:
    figures, certificate, lesson = taught.figures, taught.certificate, taught.lesson
    assert certificate.fp32_top1 is not None and certificate.int8_top1 is not None
    found: dict[str, Any] = {
        "top1": figures.top1,
        "top3": figures.top3,
        "ece": figures.calibration_error,
        "ece_by_chance": chance_error(softmax(taught.int8)),
        "fp32_top1": certificate.fp32_top1,
        "int8_loss": certificate.fp32_top1 - certificate.int8_top1,
        "agreement": certificate.top1_agreement,
        "unsure": None if figures.certain_share is None else 1 - figures.certain_share,
        "epochs_done": lesson.epochs,
        "seconds": round(taught.seconds, 1),
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    if task.test is not None:
        logits, scores, classes = _run(task.test)
        right = accuracy(logits, classes)
        found |= {"test_top1": right.top1, "test_top3": right.top3}
        found |= {"test_ece": calibration_error(softmax(logits), classes)}
        found |= {"test_ece_by_chance": chance_error(softmax(logits))}
        found |= {"test_known_kept": float((scores >= lesson.min_familiarity).mean())}
    if task.unlike is not None:
        _, scores, _ = _run(task.unlike)
        found["unlike_rejected"] = float((scores < lesson.min_familiarity).mean())
    return found


def _run(folder: Path) -> tuple[Logits, Logits, Rows]:
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
