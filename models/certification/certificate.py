"""The certificate of an int8 model: its figures against fp32 on one kind of CPU, and whether it passes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import output_errors
from models.system.atomic_file import write_atomically

# Of onnxruntime's int8 kernels against the same arithmetic in fp32. Rounding stays below, saturation is far above.
LARGEST_ARITHMETIC_ERROR = 0.01
REQUIRED_AGREEMENT = 0.97
REQUIRED_SPEEDUP = 1.0
MEGABYTE = 1_000_000
_TEXTS = frozenset({"model_id", "cpu", "onnxruntime", "recipe", "images"})
_ACCURACIES = frozenset({"int8_top1", "int8_top3", "fp32_top1", "fp32_top3"})
_SHARES = frozenset({"top1_agreement", "top3_agreement", "required_agreement"})
_POSITIVE = frozenset({"int8_images_per_s", "fp32_images_per_s", "int8_bytes", "fp32_bytes"})
# Also keeps out infinity and integers that no float holds.
_LARGEST_FIGURE = 1e18


@dataclass(frozen=True, slots=True)
class Certificate:
    """The figures, the images and CPU they were measured on, and the agreement that was required.

    Agreement and accuracy (`int8_top1` and so on) are shares; accuracy is None where the photos have no known labels.
    `divergence` is in nats. `arithmetic_error` is the relative error of this CPU's int8 kernels against exact int8
    arithmetic. Speeds are images/s at `threads` threads and `batch_size`, medians of alternating runs; resident sizes
    are those of fresh processes that only classify.
    """

    model_id: str
    cpu: str
    onnxruntime: str
    recipe: str
    images: str
    top1_agreement: float
    top3_agreement: float
    divergence: float
    arithmetic_error: float
    threads: int
    batch_size: int
    int8_images_per_s: float
    fp32_images_per_s: float
    int8_bytes: int
    fp32_bytes: int
    int8_resident_bytes: int
    fp32_resident_bytes: int
    required_agreement: float = REQUIRED_AGREEMENT
    int8_top1: float | None = None
    int8_top3: float | None = None
    fp32_top1: float | None = None
    fp32_top3: float | None = None

    @property
    def speedup(self) -> float:
        """int8 images/s over fp32 images/s."""
        return self.int8_images_per_s / self.fp32_images_per_s if self.fp32_images_per_s else math.nan

    @property
    def is_exact(self) -> bool:
        """Whether the int8 kernels of this CPU compute what they should."""
        return self.arithmetic_error <= LARGEST_ARITHMETIC_ERROR

    @property
    def faults(self) -> list[str]:
        """The reasons why the model does not pass, with their figures; empty if it passes."""
        # NaN compares false with every bound, so each condition is what must hold.
        faults = []
        if not self.is_exact:
            faults.append(
                f"this CPU's int8 kernels do not compute what they should: relative error {self.arithmetic_error:.1%}, "
                f"at most {LARGEST_ARITHMETIC_ERROR:.1%} allowed"
            )
        if not self.agrees:
            faults.append(f"agreement {self.top1_agreement:.1%} is below {self.required_agreement:.1%}")
        if not self.speedup > REQUIRED_SPEEDUP:
            faults.append(f"int8 is not faster: {self.speedup:.2f} times fp32")
        return faults

    @property
    def passed(self) -> bool:
        """Whether label-dir runs the int8 model."""
        return not self.faults

    @property
    def agrees(self) -> bool:
        """Whether enough of the photos have the label of fp32, which holds on every CPU whose arithmetic is exact."""
        return self.top1_agreement >= self.required_agreement

    def verdict(self) -> str:
        """One line: certified or not, with the figures that decide."""
        figures = f"agreement {self.top1_agreement:.1%} on {self.images}, {self.speedup:.2f} times the speed of fp32"
        return f"certified: {figures}" if self.passed else f"not certified: {'; '.join(self.faults)}"

    def to_json(self) -> str:
        """All figures as a JSON object, which `certificate_of` reads back."""
        return json.dumps(asdict(self), indent=1)

    def lines(self) -> list[tuple[str, str]]:
        """All figures for people to read, as pairs of a name and a text."""
        pairs = [
            ("model", f"{self.model_id}, weights: {self.recipe}"),
            ("CPU", self.cpu),
            ("measured on", self.images),
            ("Top-1 agreement with fp32", f"{self.top1_agreement:.2%} (required {self.required_agreement:.1%})"),
            ("fp32 label in int8's Top-3", f"{self.top3_agreement:.2%}"),
            ("mean divergence", f"{self.divergence:.4f} nats"),
            ("kernels against exact int8", f"{self.arithmetic_error:.3%} relative error"),
        ]
        for name, int8, fp32 in (("Top-1", self.int8_top1, self.fp32_top1), ("Top-3", self.int8_top3, self.fp32_top3)):
            if int8 is not None and fp32 is not None:
                pairs.append((f"{name} accuracy", f"int8 {int8:.2%}, fp32 {fp32:.2%}"))
        speed = f"int8 {self.int8_images_per_s:.1f}, fp32 {self.fp32_images_per_s:.1f}: {self.speedup:.2f} times"
        files = [size / MEGABYTE for size in (self.int8_bytes, self.fp32_bytes)]
        resident = [size / MEGABYTE for size in (self.int8_resident_bytes, self.fp32_resident_bytes)]
        return [
            *pairs,
            (f"images/s, {self.threads} threads, batch {self.batch_size}", speed),
            ("file", f"int8 {files[0]:.2f} MB, fp32 {files[1]:.2f} MB: {files[0] / files[1]:.1%}"),
            ("resident, fresh process", f"int8 {resident[0]:.0f} MB, fp32 {resident[1]:.0f} MB"),
            ("verdict", self.verdict()),
        ]


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Write a certificate as JSON. Raises OutputError."""
    with output_errors(path):
        write_atomically(path, certificate.to_json().encode())


def read_certificate(path: Path) -> Certificate | None:
    """The certificate in a file, or None where the file is missing or holds no certificate.

    A certificate has figures of the right types, finite, and shares between 0 and 1.
    """
    try:
        return certificate_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def certificate_of(text: str) -> Certificate | None:
    """The certificate in a JSON text, or None where it holds no certificate; see `read_certificate`."""
    try:
        document: dict[str, Any] = json.loads(text)
        certificate = Certificate(**document)
    except (TypeError, ValueError, RecursionError):
        return None
    return certificate if all(_is_possible(name, value) for name, value in asdict(certificate).items()) else None


def _is_possible(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _ACCURACIES and value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST_FIGURE:
        return False
    if name in _POSITIVE and value <= 0:
        return False
    return value <= 1 if name in _SHARES or name in _ACCURACIES else True
