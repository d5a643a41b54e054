"""The last layer alone, fitted anew to features that are kept."""

from __future__ import annotations

import numpy as np
import torch

from models.teaching.memory_file import Remembered
from models.teaching.photo_set import UNKNOWN, PhotoSet, Rows
from models.teaching.similarity import Features
from models.teaching.training.teachable_network import TeachableNetwork

STEPS = 60
LEARNING_RATE = 4e-4
LABEL_SMOOTHING = 0.1


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
