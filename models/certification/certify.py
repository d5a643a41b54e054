"""int8 against fp32 on this CPU: do they agree, is int8 faster, what does each take? Runs in a child of its own."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artifact import read_artifact
from models.certification.certificate import REQUIRED_AGREEMENT, Certificate
from models.classifier import Classifier
from models.onnx_runtime import onnxruntime
from models.quantization.agreement import Agreement, accuracy, agreement, logits_of, relative_error
from models.samples import Photos, generated_images
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify, isolated_call

GENERATED_IMAGES = 48
# Calibration uses seeds of its own, so that these images are new to the model.
GENERATED_SEED = 97
ARITHMETIC_IMAGES = 32
RESIDENT_AFTER_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """How to measure: threads and batch size as the pool uses them, rounds of alternating timing, what to require."""

    threads: int = 1
    batch_size: int = 16
    rounds: int = 9
    required_agreement: float = REQUIRED_AGREEMENT


def certify(notify: Notify, int8_path: Path, fp32_path: Path, photos: Photos | None, terms: Terms) -> Certificate:
    """Measure an int8 artifact against its fp32 form, on photos or, without any, on generated images.

    Without photos the agreement is the one measured when the model was built, if it was on photos and this CPU computes
    what int8 arithmetic says; else that on the generated images. Raises InputMissingError for unreadable artifacts.
    """
    artifact = read_artifact(int8_path)
    side = artifact.preprocessing.crop.crop_size
    pixels = photos.pixels if photos else generated_images(GENERATED_IMAGES, side, GENERATED_SEED)
    int8, fp32 = (logits_of(path, pixels, terms.threads) for path in (int8_path, fp32_path))
    exact = logits_of(int8_path, pixels[:ARITHMETIC_IMAGES], terms.threads, as_int8=False)
    error = relative_error(int8[:ARITHMETIC_IMAGES], exact)
    found, told = agreement(int8, fp32), photos.told if photos else f"{len(pixels)} generated images"
    if photos is None and artifact.validation.get("photos"):
        carried = artifact.validation
        found = Agreement(carried["photos"], carried["top1"], carried["top3"], carried["divergence"])
        told = f"{carried['told']} when it was built"
    known = photos.classes if photos else None
    right = [accuracy(logits, known) if known is not None else None for logits in (int8, fp32)]
    speeds = alternating_speeds([int8_path, fp32_path], terms)
    resident = [isolated_call(resident_bytes, notify, path, terms) for path in (int8_path, fp32_path)]
    return Certificate(
        model_id=artifact.model_id,
        cpu=str(this_cpu()),
        onnxruntime=onnxruntime.__version__,
        recipe=str(artifact.calibration.get("weight_range", "")),
        images=told,
        top1_agreement=found.top1,
        top3_agreement=found.top3,
        divergence=found.divergence,
        arithmetic_error=error,
        int8_top1=right[0].top1 if right[0] else None,
        int8_top3=right[0].top3 if right[0] else None,
        fp32_top1=right[1].top1 if right[1] else None,
        fp32_top3=right[1].top3 if right[1] else None,
        threads=terms.threads,
        batch_size=terms.batch_size,
        int8_images_per_s=speeds[0],
        fp32_images_per_s=speeds[1],
        int8_bytes=int8_path.stat().st_size,
        fp32_bytes=fp32_path.stat().st_size,
        int8_resident_bytes=resident[0],
        fp32_resident_bytes=resident[1],
        required_agreement=terms.required_agreement,
    )


def arithmetic_error(notify: Notify, int8_path: Path) -> float:
    """The relative error of this CPU's int8 kernels on generated images, for a model whose fp32 form is not at hand.

    Runs in a child. Raises InputMissingError for an unreadable artifact.
    """
    side = read_artifact(int8_path).preprocessing.crop.crop_size
    pixels = generated_images(ARITHMETIC_IMAGES, side, GENERATED_SEED)
    given, exact = (logits_of(int8_path, pixels, 1, as_int8=as_int8) for as_int8 in (True, False))
    return relative_error(given, exact)


def alternating_speeds(paths: list[Path], terms: Terms) -> list[float]:
    """Images/s of each artifact: medians over rounds in which all of them take their turn, so that a busy moment of
    the machine hits all alike."""
    engines = [Classifier(path, terms.threads, 1) for path in paths]
    side = read_artifact(paths[0]).preprocessing.crop.crop_size
    batch = generated_images(2, side, GENERATED_SEED)[np.arange(terms.batch_size) % 2]
    for engine in engines:
        engine.warm_up(terms.batch_size)
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(terms.rounds):
        for engine, times in zip(engines, seconds, strict=True):
            started = time.perf_counter()
            engine.classify(batch)
            times.append(time.perf_counter() - started)
    return [terms.batch_size / statistics.median(times) for times in seconds]


def resident_bytes(notify: Notify, path: Path, terms: Terms) -> int:
    """Resident memory of this process with nothing but the classifier in it; runs in a fresh child."""
    engine = Classifier(path, terms.threads, 1)
    for _ in range(RESIDENT_AFTER_BATCHES):
        engine.warm_up(terms.batch_size)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
