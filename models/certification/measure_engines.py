"""Measuring the installed engines on one model and this CPU: arithmetic, agreement with fp32, and speed in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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

_NOTHING_LIKE_IT = 1e6


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure: its int8 artifact, and where they are known its fp32 artifact, the certificate of int8 by
    onnxruntime, and the photos of that certificate. Without photos, generated images show the arithmetic."""

    int8: Path
    fp32: Path | None = None
    certificate: Certificate | None = None
    photos: Photos | None = None

    @property
    def certified_agreement(self) -> Certificate | None:
        """The certificate where its agreement holds for each engine that runs the artifact exactly: it was measured on
        other photos than there are now, by kernels that are exact themselves."""
        certificate = self.certificate
        return certificate if certificate and certificate.is_exact and self.photos is None else None


def measure_engines(notify: Notify, subject: Subject, versions: Mapping[str, str], terms: Terms) -> EngineSurvey:
    """The figures of the engines in `versions`, which are installed in these versions.

    Raises LabelDirError where the artifact cannot be read.
    """
    measured = [_figures(notify, subject, engine, version, terms) for engine, version in versions.items()]
    running = [figures for figures in measured if not figures.failure]
    engines = [_loaded(subject, figures.engine, terms) for figures in running]
    speeds = engine_speeds(engines, read_artifact(subject.int8), terms)
    by_engine = dict(zip([figures.engine for figures in running], speeds, strict=True))
    certificate = subject.certificate
    return EngineSurvey(
        cpu=str(this_cpu()),
        threads=terms.threads,
        batch_size=terms.batch_size,
        required_agreement=certificate.required_agreement if certificate else terms.required_agreement,
        fp32_images_per_s=by_engine.get(DEFAULT_ENGINE, 0.0) / certificate.speedup if certificate else 0.0,
        engines=tuple(replace(figures, images_per_s=by_engine.get(figures.engine, 0.0)) for figures in measured),
    )


def _figures(notify: Notify, subject: Subject, engine: str, version: str, terms: Terms) -> EngineFigures:
    """The arithmetic and agreement of one engine, in a process of its own, which an engine may crash."""
    certificate = subject.certificate
    if engine == DEFAULT_ENGINE and certificate is not None:
        figures = certificate.arithmetic_error, certificate.top1_agreement, certificate.images
        return EngineFigures(engine, version, *figures)
    try:
        error, agreed, images = isolated_call(answers_of, notify, engine, subject, terms.threads)
    except LabelDirError as failure:
        return EngineFigures(engine, version, failure=str(failure).strip().splitlines()[-1])
    return EngineFigures(engine, version, error, agreed, images)


def answers_of(notify: Notify, engine: str, subject: Subject, threads: int) -> tuple[float, float | None, str]:
    """The relative error of an engine's int8 kernels; the share of photos with the label of fp32, None where that is
    not known; and which photos. To be run in a process of its own."""
    certificate = subject.certified_agreement if engine != "torch-int8" else None
    count = ARITHMETIC_IMAGES if certificate else GENERATED_IMAGES
    photos = subject.photos or generated_photos(count, read_artifact(subject.int8))
    if engine == "torch-int8":
        logits, exact = _torch_logits(subject, photos.pixels)
    else:
        exact = logits_of(subject.int8, photos.pixels[:ARITHMETIC_IMAGES], threads, as_int8=False)
        logits = engine_logits(engine, subject.int8, photos.pixels, threads)
    error = relative_error(logits[:ARITHMETIC_IMAGES], exact[:ARITHMETIC_IMAGES])
    # Kernels may answer NaN.
    error = error if math.isfinite(error) else _NOTHING_LIKE_IT
    if certificate is not None:
        return error, certificate.top1_agreement, certificate.images
    if subject.fp32 is None:
        return error, None, ""
    return error, agreement(logits, logits_of(subject.fp32, photos.pixels, threads)).top1, photos.description


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
