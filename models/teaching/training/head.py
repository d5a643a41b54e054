"""The last layer alone: its beginning, and fitting it anew to features that are kept."""

from __future__ import annotations

import numpy as np
import torch

from models.teaching.familiarity import class_means
from models.teaching.memory_file import Remembered
from models.teaching.photo_set import UNKNOWN, PhotoSet, Rows
from models.teaching.similarity import Features
from models.teaching.training.teachable_network import TeachableNetwork

STEPS = 60
LEARNING_RATE = 4e-4
LABEL_SMOOTHING = 0.1
# What the logits of a head that only knows class means are scaled to: cosines times this.
MEANS_SCALE = 8.0


def begin_with_means(network: TeachableNetwork, features: Features, photos: PhotoSet, training: Rows) -> None:
    """Let the head begin with what the published features say: the direction of each class from the mean of all.

    A head that begins with zeros sends gradients through the network that say nothing yet, and with few photos there is
    no time to make up for that.
    """
    known = training[photos.classes[training] != UNKNOWN]
    centre = features[known].mean(axis=0)
    away = features[known] - centre
    directions = torch.from_numpy(class_means(away, photos.classes[known], len(photos.labels)))
    # Photos that are all alike have no directions, only rounding errors.
    length = max(float(np.linalg.norm(away, axis=1).mean()), 0.01 * float(np.linalg.norm(centre)), 1e-6)
    with torch.no_grad():
        network.head.weight.copy_(directions * (MEANS_SCALE / length))
        network.head.bias.copy_(-network.head.weight @ torch.from_numpy(centre))


def retrain_head(
    network: TeachableNetwork, remembered: Remembered, photos: PhotoSet, features: Features, training: Rows
) -> None:
    """Fit the head to the features, beginning with what it was before; a new class begins with zeros."""
    old = {label: row for row, label in enumerate(remembered.labels)}
    weight, bias = network.taught_head
    with torch.no_grad():
        for row, label in enumerate(photos.labels):
            if label in old:
                network.head.weight[row] = weight[old[label]] * remembered.temperature
                network.head.bias[row] = bias[old[label]] * remembered.temperature
    known = training[photos.classes[training] != UNKNOWN]
    inputs, targets = torch.from_numpy(features[known]), torch.from_numpy(photos.classes[known].astype(np.int64))
    optimizer = torch.optim.AdamW(network.head.parameters(), LEARNING_RATE, weight_decay=0.0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network.head(inputs), targets, label_smoothing=LABEL_SMOOTHING)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
