"""Calibration figures: what was measured of a network's activations, as a small JSON file holds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

from pydantic import TypeAdapter

PHOTO_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Calibration:
    """Activation figures by tensor name, in the network's own units.

    `ranges` are the [low, high] that uint8 has to cover; `means` are the means of each channel, for the tensors that
    layers with weights read. `fingerprint` is of the graph that they were measured on, `method` says how the ranges
    were chosen from `samples` images of `source`. `validation` holds the agreement of the int8 model with fp32 on other
    images, where it is known. `digests` are the first PHOTO_DIGITS digits of the sha256 of the photos' files, so that
    certification can leave these photos out.
    """

    fingerprint: str
    source: str
    samples: int
    method: str
    ranges: dict[str, tuple[float, float]]
    means: dict[str, tuple[float, ...]]
    validation: dict[str, Any] = field(default_factory=dict)
    digests: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The figures as one JSON object."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Calibration:
        """The figures of a JSON object that `to_json` wrote. Raises ValueError for any other text."""
        return TypeAdapter(Calibration).validate_json(text)


def committed_calibration(name: str) -> Calibration | None:
    """The figures that label-dir ships for a model of the zoo, or None."""
    table = resources.files("models.data").joinpath(f"{name}.calibration.json")
    return Calibration.from_json(table.read_text(encoding="utf-8")) if table.is_file() else None


def rounded(value: float, digits: int) -> float:
    """`value` to `digits` significant digits, which keeps the JSON small."""
    return float(f"{value:.{digits}g}")
