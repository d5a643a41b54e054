"""How much the answers of two forms of a model differ, from their logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.classifier import Pixels
from models.onnx_runtime import onnxruntime

IMAGES_PER_RUN = 8
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of `images` photos: the share with the same best label, the share whose fp32 best label is among the Top-3 of
    int8, and the mean Kullback-Leibler divergence of int8 from fp32 in nats."""

    images: int
    top1: float
    top3: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of `images` photos whose label is known: the share where it is the best label, and among the best three."""

    images: int
    top1: float
    top3: float


def logits_of(model: Path | bytes, pixels: Pixels, threads: int, as_int8: bool = True) -> Logits:
    """Logits float32 [n, classes] of uint8 [n, side, side, 3].

    With `as_int8` off, QDQ pairs stay as they are and everything between them is computed in fp32: the arithmetic that
    the int8 kernels of this CPU should come to.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not as_int8:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["logits"], {"photos": pixels[start : start + IMAGES_PER_RUN]})[0]
        for start in range(0, len(pixels), IMAGES_PER_RUN)
    ]
    return np.concatenate(parts)


def agreement(int8: Logits, fp32: Logits) -> Agreement:
    """Both float32 [n, classes], n > 0."""
    best = fp32.argmax(axis=1)
    wanted, given = _log_softmax(fp32), _log_softmax(int8)
    divergence = float((np.exp(wanted) * (wanted - given)).sum(axis=1).mean())
    return Agreement(len(best), float((int8.argmax(axis=1) == best).mean()), _among_top3(int8, best), divergence)


def accuracy(logits: Logits, classes: npt.NDArray[np.int64]) -> Accuracy:
    """`classes` int64 [n] are the true ones; n > 0."""
    return Accuracy(len(classes), float((logits.argmax(axis=1) == classes).mean()), _among_top3(logits, classes))


def relative_error(logits: Logits, reference: Logits) -> float:
    """The power of the difference as a share of the power of the reference's own variation."""
    noise = float(np.square(logits.astype(np.float64) - reference).mean())
    return noise / max(float(reference.astype(np.float64).var()), 1e-12)


def _among_top3(logits: Logits, classes: npt.NDArray[np.int64]) -> float:
    order = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    return float((order == classes[:, None]).any(axis=1).mean())


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)
