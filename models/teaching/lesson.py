"""What teaching is asked for, and what comes of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.networks.references import References
from models.teaching.memory_file import Remembered
from models.teaching.photo_set import UNKNOWN, Flags, PhotoSet, Rows
from models.teaching.similarity import Features


@dataclass(frozen=True, slots=True)
class TeachRequest:
    """What to teach, and how. `deadline_s` is on the clock of time.monotonic; `precision` is the share of right labels
    that is wanted of photos that are not unsure; `checkpoint` is where the weights are written.

    More than `memory_mb` of memory is avoided by computing activations twice. With `is_quantization_aware` the last
    epochs train with weights and activations rounded as in int8. Training ends early once `stop_file` exists.

    `epochs` and `bfloat16` take the place of what the minutes and this CPU say, to measure one recipe everywhere.

    `remembered` and `weights` are those of the model as it was taught before, if it is only to learn what is new.
    """

    base: str
    photos: PhotoSet
    minutes: float
    deadline_s: float
    threads: int
    seed: int
    precision: float
    checkpoint: Path
    stop_file: Path
    memory_mb: float
    is_quantization_aware: bool = False
    epochs: float | None = None
    bfloat16: bool | None = None
    remembered: Remembered | None = None
    weights: Path | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What came of it; rows are those of the photo set.

    `logits` float32 [n, classes] are calibrated. `doubts` float64 [n] tells how probable a wrong label is (larger is
    worse), `suspects` what the photo looks like instead. `pairs` are near-duplicates with their cosine. `curve` pairs
    numbers of training photos with the Top-1 of a linear classifier on photos kept out.
    """

    held_out: Flags
    logits: Features
    base_features: Features
    features: Features
    references: References
    familiarity: Features
    doubts: npt.NDArray[np.float64]
    suspects: Rows
    pairs: tuple[tuple[int, int, float], ...]
    curve: tuple[tuple[int, float], ...]
    temperature: float
    min_probability: float
    min_familiarity: float
    epochs: float
    epochs_planned: float
    epochs_worthwhile: float
    only_head: bool
    recomputes: bool


class StepsDone(str):
    """A notice that is progress: its text, how much is done, out of 1, and whether anything is learnt yet that a stop
    could keep."""

    done: float = 0.0
    has_learnt: bool = False

    @staticmethod
    def of(text: str, done: float, has_learnt: bool) -> StepsDone:
        """The notice."""
        notice = StepsDone(text)
        notice.done, notice.has_learnt = done, has_learnt
        return notice


def list_digest(photos: PhotoSet, held_out: Flags) -> str:
    """The sha256 of what was taught: a line for each photo with its digest, its label and whether it was kept out."""
    lines = []
    for digest, label, held in zip(photos.digests, photos.classes.tolist(), held_out.tolist(), strict=True):
        name = photos.labels[label] if label != UNKNOWN else ""
        lines.append(f"{digest} {'held out' if held else 'taught'} {name}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
