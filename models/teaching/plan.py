"""How much training fits into the minutes there are, the same for every run on the same kind of machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.teaching.training.train import TrainingRecipe

# Views a second that one core trains EfficientNet-Lite0 with, with bfloat16 and without. benchmarks/teaching_speed.py
# has 84 and 50 for one thread of an EPYC with AVX512-BF16, 2026-11-30; of two threads each does 62 with bfloat16 beside
# other work and 90 without, and a training that runs late is shortened.
VIEWS_PER_S = {True: 80.0, False: 40.0}
# The same with values rounded as in int8 (17 for one thread), and by how much computing activations twice slows down.
VIEWS_PER_S_ROUNDED = 12.0
RECOMPUTING_COST = 1.21
# What a view of each base costs, in views of EfficientNet-Lite0.
COSTS = {"efficientnet_lite0": 1.0, "efficientnet_lite1": 1.7, "efficientnet_lite2": 2.4}
# Reading, splitting, judging and building take this, whatever is trained; decoding and features this for each photo.
FIXED_S = 30.0
PHOTO_S = 0.006
# Resident memory of a training: of the process, and of the activations of EfficientNet-Lite0 in bfloat16; and how many
# times that is without bfloat16, and with values rounded as in int8. A training of few steps takes 1,394, 1,725 and
# 2,777 MB (same command), a whole one with bfloat16 1,608.
PROCESS_MB, ACTIVATIONS_MB = 600.0, 1000.0
WITHOUT_BFLOAT16, ROUNDED = 1.4, 2.8
# What is worth training: beyond so many views of all photos, and of each, validation no longer gained.
EPOCHS_WORTHWHILE = 7.0
VIEWS_WORTHWHILE = 3000
FEWEST_EPOCHS = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How many epochs to train, how many would be worth it, and the seconds left for training."""

    epochs: float
    epochs_worthwhile: float
    training_s: float


def plan(
    photos: int,
    minutes: float,
    base: str,
    cores: int,
    bfloat16: bool,
    recomputes: bool = False,
    is_quantization_aware: bool = False,
) -> Plan:
    """What to do in `minutes` with so many photos to train on, n > 0."""
    cost = COSTS[base] / (VIEWS_PER_S[bfloat16] * cores) * (RECOMPUTING_COST if recomputes else 1.0)
    training_s = max(0.25 * 60 * minutes, 60 * minutes - FIXED_S - photos * PHOTO_S * COSTS[base])
    if is_quantization_aware:
        training_s -= min(0.5 * training_s, photos * COSTS[base] / (VIEWS_PER_S_ROUNDED * cores))
    worthwhile = EPOCHS_WORTHWHILE + VIEWS_WORTHWHILE / photos
    affordable = math.floor(4 * training_s / (cost * photos)) / 4
    return Plan(max(FEWEST_EPOCHS, min(worthwhile, affordable)), worthwhile, training_s)


def memory_mb(base: str, bfloat16: bool, rounds: bool = False) -> float:
    """About how much memory a training takes, with values rounded as in int8 where `rounds`, unless it computes
    activations twice."""
    times = ROUNDED if rounds else 1.0 if bfloat16 else WITHOUT_BFLOAT16
    return PROCESS_MB + ACTIVATIONS_MB * COSTS[base] * times


def recipe_of(planned: Plan, photos: int, seed: int) -> TrainingRecipe:
    """The training that a plan means for so many photos."""
    return TrainingRecipe(epochs=planned.epochs, seed=seed)
