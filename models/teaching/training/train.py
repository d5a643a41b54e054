"""The training loop: decoded photos and their classes -> a taught network."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from models.spec import Preprocessing
from models.teaching.photo_set import UNKNOWN, PhotoSet, Rows
from models.teaching.similarity import Features
from models.teaching.training.teachable_network import TeachableNetwork
from models.teaching.training.views import ViewRules, centre_views, normalised, random_views

FEATURE_BATCH = 32
# So many steps tell the speed; the first few are slower, while memory is still being laid out.
PACE_STEPS = 20
# By how much a training may pass its time before it is shortened.
LATE = 1.1

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_TRIM_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """The figures of a training.

    A weight's learning rate is `relative_rate` times the root mean square of its tensor; that of biases and of the
    head are absolute. `ema_decay` is of the average of the weights that is kept in the end.
    """

    epochs: float = 8
    batch_size: int = 32
    # Folding batch norms makes the weights of some layers twenty times those of others. With one rate for all, some
    # layers change by a third while others stand still, and photos of another day are recognised worse.
    relative_rate: float = 0.008
    bias_rate: float = 4e-4
    head_rate: float = 8e-4
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    warm_up: float = 0.1
    ema_decay: float = 0.99
    views: ViewRules = field(default_factory=ViewRules)
    seed: int = 0

    @property
    def rounded(self) -> TrainingRecipe:
        """The quantization-aware training that follows: one epoch at a tenth of the learning rate."""
        return replace(
            self,
            epochs=1,
            relative_rate=self.relative_rate / 10,
            bias_rate=self.bias_rate / 10,
            head_rate=self.head_rate / 10,
            seed=self.seed + 1,
        )


def computes_bfloat16() -> bool:
    """Whether this CPU computes bfloat16 itself; emulated, it takes twice the time of float32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def autocast(network: TeachableNetwork) -> torch.autocast:
    """bfloat16 where the network uses it, but not where values are rounded, which is done in float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=network.uses_bfloat16 and not network.rounds)


def keep_freed_memory() -> None:
    """Make the C library reuse freed memory: a step's large tensors would else be mapped anew, page fault by fault."""
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM_BYTES)


class Average:
    """The exponential moving average of a network's trained parameters."""

    def __init__(self, network: nn.Module, decay: float):
        self._trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._averages = [parameter.detach().clone() for parameter in self._trained]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters of this step into the average; the first steps count for more."""
        self._steps += 1
        share = 1 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._averages, [p.detach() for p in self._trained], share)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the network the average."""
        for parameter, average in zip(self._trained, self._averages, strict=True):
            parameter.copy_(average)


@dataclass(frozen=True, slots=True)
class Trained:
    """How far a training came: `epochs` (fewer than the recipe's where it ran late), and the mean of the logits of all
    views of each photo, float32 [n, classes]: what the network held a photo for before it knew the photo by heart."""

    epochs: float
    mean_logits: Features


def train(
    network: TeachableNetwork,
    photos: PhotoSet,
    rows: Rows,
    preprocessing: Preprocessing,
    recipe: TrainingRecipe,
    deadline_s: float,
    progress: Callable[[int, int], bool],
) -> Trained:
    """Train on the photos of `rows`; the network then has the average of its weights.

    A training that would end after `deadline_s`, on the clock of time.monotonic, is shortened when its pace is known.
    `progress(step, steps)` returns whether to go on.
    """
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    network.to(memory_format=torch.channels_last)
    optimizer = _optimizer(network, recipe)
    epoch_steps = math.ceil(len(rows) / recipe.batch_size)
    pace = Pace(max(1, round(recipe.epochs * len(rows) / recipe.batch_size)), epoch_steps, deadline_s)
    average = Average(network, recipe.ema_decay)
    targets = _targets(photos.classes[rows], network.head.out_features, recipe.label_smoothing)
    sums, views = torch.zeros(len(rows), network.head.out_features), torch.zeros(len(rows), 1)
    step = 0
    for indices in _batches(len(rows), recipe.batch_size, random):
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * _rate(step, pace.steps, recipe.warm_up)
        pixels = photos.pixels(rows[indices])
        x = normalised(
            random_views(pixels, preprocessing.crop.crop_size, recipe.views, random), preprocessing.normalisation
        )
        with autocast(network):
            features = network.features(x)
        logits = network.head(features)
        loss = nn.functional.cross_entropy(logits, targets[indices])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.update()
        sums.index_add_(0, torch.from_numpy(indices), logits.detach())
        views.index_add_(0, torch.from_numpy(indices), torch.ones(len(indices), 1))
        step += 1
        pace.take(step)
        if not progress(step, pace.steps) or step >= pace.steps:
            break
    average.apply()
    return Trained(step * recipe.batch_size / len(rows), (sums / views.clamp(min=1)).numpy())


class Pace:
    """How many steps a training takes: as planned, or as many as its time allows at the speed it turned out to have,
    but `fewest` at least: a model that has not seen each photo once is worth nothing."""

    def __init__(self, steps: int, fewest: int, deadline_s: float):
        self.steps, self._fewest = steps, min(fewest, steps)
        self._deadline_s, self._started_s = deadline_s, time.monotonic()

    def take(self, done: int) -> None:
        """Count a step; every PACE_STEPS steps, drop those that the time left does not hold."""
        if done % PACE_STEPS:
            return
        now_s = time.monotonic()
        step_s = (now_s - self._started_s) / done
        left_s = self._deadline_s - now_s
        if (self.steps - done) * step_s > LATE * max(left_s, 0.0):
            self.steps = max(done, self._fewest, done + int(left_s / step_s))


@torch.no_grad()
def features_of(
    network: TeachableNetwork,
    photos: PhotoSet,
    rows: Rows,
    preprocessing: Preprocessing,
    progress: Callable[[int, int], object],
) -> Features:
    """float32 [rows, features]: what the head reads of the photos, as the model will see them."""
    parts = [np.zeros((0, network.head.in_features), np.float32)]
    for start in range(0, len(rows), FEATURE_BATCH):
        views = centre_views(photos.pixels(rows[start : start + FEATURE_BATCH]), preprocessing.crop.crop_size)
        with autocast(network):
            parts.append(network.features(normalised(views, preprocessing.normalisation)).numpy())
        progress(start, len(rows))
    return np.concatenate(parts)


def _targets(classes: Rows, count: int, smoothing: float) -> Tensor:
    """float32 [n, count]: the class, a little of all classes; of photos of none of them, all classes alike."""
    targets = torch.full((len(classes), count), 1 / count)
    known = torch.from_numpy(np.flatnonzero(classes != UNKNOWN))
    targets[known] = smoothing / count
    targets[known, torch.from_numpy(classes)[known]] += 1 - smoothing
    return targets


def _optimizer(network: TeachableNetwork, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {
                "params": [parameter],
                "peak_lr": peak_rate(name, parameter, recipe),
                "weight_decay": recipe.weight_decay if parameter.ndim > 1 else 0.0,
            }
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        ]
    )


def peak_rate(name: str, parameter: Tensor, recipe: TrainingRecipe) -> float:
    """The learning rate of a parameter of a TeachableNetwork, at its highest."""
    if name.startswith("head."):
        return recipe.head_rate
    if parameter.ndim == 1:
        return recipe.bias_rate
    return recipe.relative_rate * float(parameter.detach().square().mean().sqrt())


def _rate(step: int, steps: int, warm_up: float) -> float:
    """The share of the full learning rate: up in a line, then down along a cosine."""
    rising = max(1.0, warm_up * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def _batches(count: int, batch_size: int, random: np.random.Generator) -> Iterator[Rows]:
    """Indices for step after step, without end; every photo once in an epoch, and epochs run into one another."""
    order = random.permutation(count)
    while True:
        while len(order) < batch_size:
            order = np.concatenate([order, random.permutation(count)])
        yield order[:batch_size]
        order = order[batch_size:]
