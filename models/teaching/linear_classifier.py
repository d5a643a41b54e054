"""A linear classifier of the published network's features: taught in a second, it audits labels and tells what more
photos would bring."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.teaching.photo_set import UNKNOWN, Flags, PhotoSet
from models.teaching.similarity import Features, unit_rows

STEPS = 120
LEARNING_RATE = 0.01
WEIGHT_DECAY = 0.01
COSINE_SCALE = 16.0
CURVE_SHARES = (0.25, 0.5, 1.0)


def inputs_of(features: Features) -> Tensor:
    """What the classifier reads: float32 [n, features], each photo's features less their mean, all of one length."""
    return torch.from_numpy(COSINE_SCALE * unit_rows(features - features.mean(axis=0)))


def linear_head(inputs: Tensor, targets: Tensor, count: int, seed: int) -> nn.Linear:
    """A linear classifier of float32 [n, features] -> `count` classes."""
    torch.manual_seed(seed)
    head = nn.Linear(inputs.shape[1], count)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return head


def learning_curve(features: Features, photos: PhotoSet, held: Flags, seed: int) -> tuple[tuple[int, float], ...]:
    """Numbers of photos, and the share of photos kept out that a classifier of so many gets right."""
    known = photos.classes != UNKNOWN
    judged = np.flatnonzero(held & known)
    training = np.random.default_rng(seed).permutation(np.flatnonzero(~held & known))
    if not len(judged) or len(training) < 4 * len(photos.labels):
        return ()
    inputs = inputs_of(features)
    points = []
    for share in CURVE_SHARES:
        rows = training[: round(share * len(training))]
        head = linear_head(inputs[rows], torch.from_numpy(photos.classes[rows]), len(photos.labels), seed)
        with torch.no_grad():
            right = head(inputs[judged]).argmax(1).numpy() == photos.classes[judged]
        points.append((len(rows), float(right.mean())))
    return tuple(points)
