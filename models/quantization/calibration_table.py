"""What calibration found out about a network's activations, as figures that a small JSON holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

PHOTO_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Calibration:
    """Activation figures by tensor name, in the network's own units.

    `ranges` are the [low, high] that uint8 has to cover; `means` the mean of each channel, for the tensors that layers
    with weights read. `fingerprint` is of the graph they were measured on, `method` how the ranges were chosen from
    `samples` images of `source`. `validation` tells how int8 with these figures did on images kept out of them, if
    that is known; `digests` are the first digits of the sha256 of the photos' files, so that none of them certifies.
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
        """One JSON object, figures as they are."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Calibration:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        document: dict[str, Any] = json.loads(text)
        return Calibration(
            fingerprint=str(document["fingerprint"]),
            source=str(document["source"]),
            samples=int(document["samples"]),
            method=str(document["method"]),
            ranges={name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()},
            means={name: tuple(float(mean) for mean in means) for name, means in document["means"].items()},
            validation=dict(document["validation"]),
            digests=tuple(str(digest) for digest in document["digests"]),
        )


def committed_calibration(name: str) -> Calibration | None:
    """The table that ships with label-dir for a model of the zoo, or None."""
    table = resources.files("models.data").joinpath(f"{name}.calibration.json")
    return Calibration.from_json(table.read_text(encoding="utf-8")) if table.is_file() else None


def rounded(value: float, digits: int) -> float:
    """`value` to so many significant digits, so that a table of figures stays small and reads well."""
    return float(f"{value:.{digits}g}")
