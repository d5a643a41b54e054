"""Measuring an int8 model against its fp32 form on this CPU: agreement, arithmetic, speed and memory."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.artifact import Artifact, read_artifact
from models.certification.certificate import REQUIRED_AGREEMENT, Certificate
from models.classifier import Classifier
from models.engines import Engine
from models.onnx_runtime import onnxruntime
from models.quantization.agreement import Agreement, Logits, accuracy, agreement, logits_of, relative_error
from models.samples import Photos, generated_images
from models.spec import DEFAULT_BATCH_SIZE
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify, isolated_call

GENERATED_IMAGES = 48
# Another seed than calibration's, so that these images are new to the model.
GENERATED_SEED = 97
ARITHMETIC_IMAGES = 32
RESIDENT_AFTER_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """How to certify: threads and batch size as in a run, rounds of alternating timing, and the agreement required."""

    threads: int = 1
    batch_size: int = DEFAULT_BATCH_SIZE
    rounds: int = 9
    required_agreement: float = REQUIRED_AGREEMENT


def certify(notify: Notify, int8_path: Path, fp32_path: Path, photos: Photos | None, terms: Terms) -> Certificate:
    """The certificate of an int8 artifact, measured on photos or, without them, on generated images.

    Without photos the agreement is the one measured on photos when the model was built, if there is one: where this
    CPU's arithmetic is exact, it holds here too. Raises InputMissingError for artifacts that cannot be read.
    """
    artifact, paths = read_artifact(int8_path), (int8_path, fp32_path)
    images = photos or generated_photos(GENERATED_IMAGES, artifact)
    int8, fp32 = (logits_of(path, images.pixels, terms.threads) for path in paths)
    exact = logits_of(int8_path, images.pixels[:ARITHMETIC_IMAGES], terms.threads, as_int8=False)
    agreed, description = agreement(int8, fp32), images.description
    if photos is None and (built := artifact.validation).get("photos"):
        agreed = Agreement(built["photos"], built["top1"], built["top3"], built["divergence"])
        description = f"{built['told']} when it was built"
    speeds = alternating_speeds(paths, terms)
    resident = [isolated_call(resident_bytes, notify, path, terms) for path in paths]
    return Certificate(
        model_id=artifact.model_id,
        cpu=str(this_cpu()),
        onnxruntime=onnxruntime.__version__,
        recipe=str(artifact.calibration.get("weight_range", "")),
        images=description,
        top1_agreement=agreed.top1,
        top3_agreement=agreed.top3,
        divergence=agreed.divergence,
        arithmetic_error=relative_error(int8[:ARITHMETIC_IMAGES], exact),
        threads=terms.threads,
        batch_size=terms.batch_size,
        int8_images_per_s=speeds[0],
        fp32_images_per_s=speeds[1],
        int8_bytes=int8_path.stat().st_size,
        fp32_bytes=fp32_path.stat().st_size,
        int8_resident_bytes=resident[0],
        fp32_resident_bytes=resident[1],
        required_agreement=terms.required_agreement,
        **({} if images.classes is None else _accuracies(int8, fp32, images.classes)),
    )


def arithmetic_error(notify: Notify, int8_path: Path) -> float:
    """The relative error of this CPU's int8 kernels on generated images, without the model's fp32 form. Raises
    InputMissingError for an artifact that cannot be read."""
    pixels = generated_photos(ARITHMETIC_IMAGES, read_artifact(int8_path)).pixels
    given, exact = (logits_of(int8_path, pixels, 1, as_int8=as_int8) for as_int8 in (True, False))
    return relative_error(given, exact)


def alternating_speeds(paths: Sequence[Path], terms: Terms) -> list[float]:
    """Images/s of each artifact by onnxruntime, as `engine_speeds` measures."""
    return engine_speeds([Classifier(path, terms.threads, 1) for path in paths], read_artifact(paths[0]), terms)


def engine_speeds(engines: Sequence[Engine], artifact: Artifact, terms: Terms) -> list[float]:
    """Images/s of each engine on photos for an artifact: medians over rounds in which every engine runs once, so that
    other work on the machine slows all of them down alike. With one thread, the seconds are those of the CPU."""
    clock = time.process_time if terms.threads == 1 else time.perf_counter
    batch = generated_photos(2, artifact).pixels[np.arange(terms.batch_size) % 2]
    for engine in engines:
        engine.warm_up(terms.batch_size)
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(terms.rounds):
        for engine, times in zip(engines, seconds, strict=True):
            started = clock()
            engine.classify(batch)
            times.append(clock() - started)
    return [terms.batch_size / statistics.median(times) for times in seconds]


def resident_bytes(notify: Notify, path: Path, terms: Terms) -> int:
    """Resident memory of this process once it has classified; run it in a fresh process, where nothing else counts."""
    engine = Classifier(path, terms.threads, 1)
    for _ in range(RESIDENT_AFTER_BATCHES):
        engine.warm_up(terms.batch_size)
    return resident_bytes_here()


def resident_bytes_here() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _accuracies(int8: Logits, fp32: Logits, classes: npt.NDArray[np.int64]) -> dict[str, float]:
    quantized, exact = accuracy(int8, classes), accuracy(fp32, classes)
    return {"int8_top1": quantized.top1, "int8_top3": quantized.top3, "fp32_top1": exact.top1, "fp32_top3": exact.top3}


def generated_photos(count: int, artifact: Artifact) -> Photos:
    """Generated images that calibrated no model, of the size that the artifact reads."""
    pixels = generated_images(count, artifact.preprocessing.crop.crop_size, GENERATED_SEED)
    return Photos(pixels, f"{count} generated images")
