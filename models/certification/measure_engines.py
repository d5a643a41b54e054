"""Measuring the installed engines on one model and this CPU: arithmetic, agreement with fp32, and speed in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.artifact import Artifact, read_artifact
from models.certification.certificate import Certificate
from models.certification.certify import ARITHMETIC_IMAGES, GENERATED_IMAGES, Terms, engine_speeds, generated_photos
from models.certification.engine_survey import EngineFigures, EngineSurvey
from models.classifier import Pixels
from models.engines import Engine, load_engine
from models.errors import LabelDirError
from models.quantization.agreement import Logits, agreement, logits_of, relative_error
from models.samples import Photos
from models.spec import DEFAULT_ENGINE, DEFAULT_TOP_K
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify, isolated_call

# In place of a figure that is none: kernels may answer NaN.
_NOTHING_LIKE_IT = 1e6


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure: its int8 artifact, and where they are known its fp32 artifact, the certificate of int8 by
    onnxruntime, and photos. Without photos, generated images show the arithmetic."""

    int8: Path
    fp32: Path | None = None
    certificate: Certificate | None = None
    photos: Photos | None = None


def measure_engines(notify: Notify, subject: Subject, versions: Mapping[str, str], terms: Terms) -> EngineSurvey:
    """The figures of the engines in `versions`, which are installed in these versions.

    An engine that runs the artifact itself, and exactly, answers as onnxruntime does; so without photos the agreement
    in its certificate holds for that engine too. Raises LabelDirError where the artifact cannot be read.
    """
    measured = [_figures(notify, subject, engine, version, terms) for engine, version in versions.items()]
    running = [figures for figures in measured if not figures.failure]
    engines: list[Engine] = [_loaded(subject, figures.engine, terms) for figures in running]
    if subject.fp32 is not None:
        engines.append(load_engine("onnxruntime-fp32", subject.fp32, terms.threads, 1))
    speeds = engine_speeds(engines, read_artifact(subject.int8), terms)
    by_engine = dict(zip([figures.engine for figures in running], speeds, strict=False))
    required = subject.certificate.required_agreement if subject.certificate else terms.required_agreement
    return EngineSurvey(
        cpu=str(this_cpu()),
        threads=terms.threads,
        batch_size=terms.batch_size,
        required_agreement=required,
        fp32_images_per_s=speeds[-1] if subject.fp32 is not None else 0.0,
        engines=tuple(_with_speed(figures, by_engine.get(figures.engine, 0.0)) for figures in measured),
    )


def _figures(notify: Notify, subject: Subject, engine: str, version: str, terms: Terms) -> EngineFigures:
    """The arithmetic and agreement of one engine, in a process of its own, which an engine may crash."""
    artifact = read_artifact(subject.int8)
    photos = subject.photos or generated_photos(GENERATED_IMAGES, artifact)
    try:
        error, agreed = isolated_call(answers_of, notify, engine, subject, photos.pixels, terms.threads)
    except LabelDirError as failure:
        return EngineFigures(engine, version, failure=str(failure).strip().splitlines()[-1])
    images = photos.description
    certificate = subject.certificate
    if subject.photos is None and certificate is not None and certificate.is_exact and engine != "torch-int8":
        agreed, images = certificate.top1_agreement, certificate.images
    return EngineFigures(engine, version, error, agreed, images if agreed is not None else "")


def answers_of(
    notify: Notify, engine: str, subject: Subject, pixels: Pixels, threads: int
) -> tuple[float, float | None]:
    """The relative error of an engine's int8 kernels, and the share of photos with the label of fp32 where the fp32
    form is known; to be run in a process of its own."""
    if engine == "torch-int8":
        logits, exact = _torch_logits(subject, pixels)
    else:
        exact = logits_of(subject.int8, pixels[:ARITHMETIC_IMAGES], threads, as_int8=False)
        logits = engine_logits(engine, subject.int8, pixels, threads)
    error = relative_error(logits[:ARITHMETIC_IMAGES], exact[:ARITHMETIC_IMAGES])
    agreed = agreement(logits, logits_of(subject.fp32, pixels, threads)).top1 if subject.fp32 else None
    return (error if math.isfinite(error) else _NOTHING_LIKE_IT), agreed


def engine_logits(engine: str, int8: Path, pixels: Pixels, threads: int) -> Logits:
    """Logits float32 [n, classes] of an engine that runs the artifact itself. Raises InputMissingError."""
    if engine == DEFAULT_ENGINE:
        return logits_of(int8, pixels, threads)
    from models.engines.openvino_engine import OpenVinoClassifier

    return OpenVinoClassifier(int8, threads, _top_k(read_artifact(int8))).logits(pixels)


def _torch_logits(subject: Subject, pixels: Pixels) -> tuple[Logits, Logits]:
    """The logits of torch's int8 kernels as a run chooses them, and those of other kernels for the same weights."""
    from models.engines.torch_engines import torch_int8_logits

    assert subject.fp32 is not None
    given, other = (torch_int8_logits(read_artifact(subject.fp32), pixels, kernels) for kernels in ("x86", "fbgemm"))
    return given, other


def _loaded(subject: Subject, engine: str, terms: Terms) -> Engine:
    path = subject.fp32 if engine == "torch-int8" and subject.fp32 else subject.int8
    return load_engine(engine, path, terms.threads, _top_k(read_artifact(subject.int8)))


def _top_k(artifact: Artifact) -> int:
    # As a run does by default, so that a run finds the compiled form that was made here.
    return min(DEFAULT_TOP_K, len(artifact.labels))


def _with_speed(figures: EngineFigures, images_per_s: float) -> EngineFigures:
    return EngineFigures(
        figures.engine,
        figures.version,
        figures.arithmetic_error,
        figures.top1_agreement,
        figures.images,
        images_per_s,
        figures.failure,
    )
