"""What a model remembers of the photos it was taught with, so that teaching it again costs only what is new."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import output_errors
from models.manifest import cache_folder
from models.system.atomic_file import write_atomically
from models.teaching.photo_set import Rows
from models.teaching.similarity import Features


@dataclass(frozen=True, slots=True)
class Remembered:
    """Photos by digest, in one order: features of the published base and of the taught network, float16 [n, features].

    `fp32` is the file name of the artifact they belong to, `temperature` what its head was divided by, `held_out` the
    digests of the photos kept out, `answers` for each of those its true label and the label that int8 gave it.
    """

    fp32: str
    base: str
    labels: tuple[str, ...]
    digests: tuple[str, ...]
    base_features: Features
    features: Features
    temperature: float
    held_out: tuple[str, ...]
    answers: dict[str, tuple[str, str]]


def memory_path(model: str) -> Path:
    """Where the memory of a taught model lies."""
    return cache_folder() / "teaching" / f"{model}.npz"


def write_memory(path: Path, remembered: Remembered) -> None:
    """Keep it in one file. Raises OutputError."""
    told = {
        "fp32": remembered.fp32,
        "base": remembered.base,
        "labels": remembered.labels,
        "digests": remembered.digests,
        "temperature": remembered.temperature,
        "held_out": remembered.held_out,
        "answers": remembered.answers,
    }
    stream = io.BytesIO()
    np.savez(
        stream,
        told=np.frombuffer(json.dumps(told).encode(), np.uint8),
        base_features=remembered.base_features.astype(np.float16),
        features=remembered.features.astype(np.float16),
    )
    with output_errors(path):
        write_atomically(path, stream.getvalue())


def read_memory(path: Path) -> Remembered | None:
    """What was kept, or None where there is nothing that can be read."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            told = json.loads(file["told"].tobytes())
            found = Remembered(
                fp32=str(told["fp32"]),
                base=str(told["base"]),
                labels=tuple(told["labels"]),
                digests=tuple(told["digests"]),
                base_features=file["base_features"].astype(np.float32),
                features=file["features"].astype(np.float32),
                temperature=float(told["temperature"]),
                held_out=tuple(told["held_out"]),
                answers={digest: (str(one[0]), str(one[1])) for digest, one in told["answers"].items()},
            )
        return found if _is_possible(found) else None
    except Exception:
        # Of damaged archives numpy and zipfile raise errors of any class; teaching computes the features again.
        return None


def _is_possible(found: Remembered) -> bool:
    """Whether the texts are texts, and each photo has finite features."""
    texts = (*found.labels, *found.digests, *found.held_out, *found.answers)
    return (
        all(isinstance(text, str) for text in texts)
        and all(
            features.ndim == 2 and len(features) == len(found.digests) and bool(np.isfinite(features).all())
            for features in (found.base_features, found.features)
        )
        and 0 < found.temperature < math.inf
    )


def known_rows(digests: tuple[str, ...], remembered: Remembered | None) -> tuple[Rows, Rows]:
    """Which of `digests` are remembered, and where: two int64 [k]."""
    places = {digest: place for place, digest in enumerate(remembered.digests)} if remembered else {}
    pairs = [(row, places[digest]) for row, digest in enumerate(digests) if digest in places]
    return np.array([row for row, _ in pairs], np.int64), np.array([place for _, place in pairs], np.int64)
