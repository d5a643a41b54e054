"""Logits of two forms of a model, and how much their answers differ."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.classifier import Pixels
from models.onnx_runtime import model_file_errors, open_session, quiet_options

IMAGES_PER_RUN = 8
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of `images` photos: the share whose most likely label is the same in int8 and fp32 (`top1`), the share whose fp32
    label is among the three likeliest of int8 (`top3`), and the mean Kullback-Leibler divergence of int8 from fp32, in
    nats."""

    images: int
    top1: float
    top3: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of `images` photos of known label: the share where it is the likeliest label, and among the three likeliest."""

    images: int
    top1: float
    top3: float


def logits_of(model: Path | bytes, pixels: Pixels, threads: int, as_int8: bool = True) -> Logits:
    """Logits float32 [n, classes] of uint8 [n, side, side, 3].

    Without `as_int8`, onnxruntime keeps the QuantizeLinear and DequantizeLinear pairs and computes everything between
    them in fp32: exact int8 arithmetic, as a reference for the int8 kernels of this CPU. Raises InputMissingError for
    a file that is damaged.
    """
    options = quiet_options(threads)
    if not as_int8:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    with model_file_errors(model) if isinstance(model, Path) else contextlib.nullcontext():
        session = open_session(model, options)
        parts = [
            session.run(["logits"], {"photos": pixels[start : start + IMAGES_PER_RUN]})[0]
            for start in range(0, len(pixels), IMAGES_PER_RUN)
        ]
    return np.concatenate(parts)


def agreement(int8: Logits, fp32: Logits) -> Agreement:
    """The agreement of int8 with fp32 logits, both float32 [n, classes], n > 0."""
    best = fp32.argmax(axis=1)
    log_fp32, log_int8 = _log_softmax(fp32), _log_softmax(int8)
    divergence = float((np.exp(log_fp32) * (log_fp32 - log_int8)).sum(axis=1).mean())
    return Agreement(len(best), _share_in_top(1, int8, best), _share_in_top(3, int8, best), divergence)


def accuracy(logits: Logits, classes: npt.NDArray[np.int64]) -> Accuracy:
    """The accuracy of logits float32 [n, classes] whose true classes are int64 [n], n > 0."""
    return Accuracy(len(classes), _share_in_top(1, logits, classes), _share_in_top(3, logits, classes))


def relative_error(logits: Logits, reference: Logits) -> float:
    """The mean squared difference from the reference, divided by the variance of the reference."""
    noise = float(np.square(logits.astype(np.float64) - reference).mean())
    return noise / max(float(reference.astype(np.float64).var()), 1e-12)


def _share_in_top(k: int, logits: Logits, classes: npt.NDArray[np.int64]) -> float:
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((order == classes[:, None]).any(axis=1).mean())


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)
