"""Photos and their classes -> the weights of a taught network, and all that was found out on the way.

Runs in a process of its own, whose memory ends with it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.errors import UsageError
from models.networks.checkpoint import read_checkpoint
from models.system.isolated_call import Notify
from models.teaching.audit import COSINE_SCALE, doubts, linear_head, out_of_fold_logits
from models.teaching.confidence import best_temperature, least_probability, softmax
from models.teaching.familiarity import class_means, familiarity, least_familiarity
from models.teaching.memory_file import Remembered, known_rows
from models.teaching.photo_set import UNKNOWN, Flags, PhotoSet, Rows
from models.teaching.plan import memory_mb, plan, recipe_of
from models.teaching.similarity import NEAR_DUPLICATE, Features, bursts, groups, near_duplicates, same_bytes, unit_rows
from models.teaching.split import kept_out
from models.teaching.teachable_network import TeachableNetwork
from models.teaching.train import computes_bfloat16, features_of, keep_freed_memory, train
from models.zoo import SPECS, find_weights

CURVE_SHARES = (0.25, 0.5, 1.0)
HEAD_STEPS = 60
# A training of less than this share of its plan is told of.
ON_PLAN = 0.8
# More new photos than this share of all, and the network itself is taught again, not its head alone.
MOST_NEW = 0.1


@dataclass(frozen=True, slots=True)
class TeachRequest:
    """What to teach, and how. `deadline_s` is on the clock of time.monotonic; `precision` is the share of right labels
    that is wanted of photos that are not unsure; `checkpoint` is where the weights are written.

    More than `memory_mb` of memory is avoided by computing activations twice.

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
    memory_mb: float
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
    means: Features
    familiarity: Features
    doubts: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
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


class StepsDone(str):
    """A notice that is progress: its text, and how much is done, out of 1."""

    done: float = 0.0

    @staticmethod
    def of(text: str, done: float) -> StepsDone:
        """The notice."""
        notice = StepsDone(text)
        notice.done = done
        return notice


def teach(notify: Notify, request: TeachRequest) -> Lesson:
    """Teach, and write the weights to `request.checkpoint`. Raises LabelDirError."""
    torch.set_num_threads(request.threads)
    keep_freed_memory()
    photos, count = request.photos, len(request.photos.labels)
    if count < 2:
        raise UsageError(f"there is one class only, {photos.labels[0]!r}: two are needed to tell apart")
    spec = SPECS[request.base]
    network = TeachableNetwork(request.base, read_checkpoint(find_weights(spec.weights)), count)
    rows = np.arange(len(photos.names))
    network.recomputes = memory_mb(request.base, computes_bfloat16()) > request.memory_mb
    base_features = _with_memory(
        photos,
        request.remembered.base_features if request.remembered else None,
        request.remembered,
        lambda new: features_of(network, photos, new, spec.preprocessing),
    )
    pairs = near_duplicates(base_features)
    joined = groups(len(rows), [*((a, b) for a, b, _ in pairs), *same_bytes(photos.digests), *bursts(photos.moments)])
    before = request.remembered.held_out if request.remembered else ()
    held = photos.held_out if photos.held_out is not None else kept_out(photos.classes, joined, photos.digests, before)
    training = rows[~held]
    known = photos.classes != UNKNOWN
    if not (known & ~held).any():
        raise UsageError("there is no photo to learn from")
    kinds = [out_of_fold_logits(base_features[known], photos.classes[known], joined[known], count, request.seed)]
    planned = plan(len(training), request.minutes, request.base, request.threads, computes_bfloat16())
    only_head = request.weights is not None
    epochs = 0.0
    if only_head:
        assert request.weights is not None and request.remembered is not None
        network.load_published_form(read_checkpoint(request.weights))
        features = _with_memory(
            photos,
            request.remembered.features,
            request.remembered,
            lambda new: features_of(network, photos, new, spec.preprocessing),
        )
        _retrain_head(network, request.remembered, photos, features, training)
    else:
        trained = train(
            network,
            photos,
            training,
            spec.preprocessing,
            recipe_of(planned, request.seed),
            request.deadline_s,
            _progress(notify, request.deadline_s),
        )
        epochs = trained.epochs
        if epochs < ON_PLAN * planned.epochs:
            notify(
                f"this machine was slower than planned: each photo was seen {epochs:.1f} times instead of "
                f"{planned.epochs:.1f}; give it more --minutes"
            )
        seen = np.zeros((len(rows), count), np.float32)
        seen[training] = trained.mean_logits
        features = features_of(network, photos, rows, spec.preprocessing)
        kinds.append(seen)
    with torch.no_grad():
        logits = network.head(torch.from_numpy(features)).numpy()
    if len(kinds) > 1:
        kinds[1][held] = logits[held]
        kinds[1] = kinds[1][known]
    judged = held & known
    temperature = best_temperature(logits[judged], photos.classes[judged])
    with torch.no_grad():
        network.head.weight.div_(temperature)
        network.head.bias.div_(temperature)
    logits = logits / np.float32(temperature)
    means = class_means(features[known & ~held], photos.classes[known & ~held], count)
    scores = familiarity(features, means)
    all_doubts, suspects = np.full(len(rows), -np.inf), np.full(len(rows), UNKNOWN)
    all_doubts[known] = doubts(kinds, photos.classes[known])
    suspects[known] = _other_class(np.sum([softmax(kind) for kind in kinds], axis=0), photos.classes[known])
    torch.save(network.published_form(), request.checkpoint)
    return Lesson(
        held_out=held,
        logits=logits,
        base_features=base_features,
        features=features,
        means=means,
        familiarity=scores,
        doubts=all_doubts,
        suspects=suspects,
        pairs=tuple(pairs),
        curve=_curve(base_features, photos, held, request.seed),
        temperature=temperature,
        min_probability=least_probability(softmax(logits[judged]), photos.classes[judged], request.precision),
        min_familiarity=least_familiarity(scores[judged]),
        epochs=epochs,
        epochs_planned=planned.epochs,
        epochs_worthwhile=planned.epochs_worthwhile,
        only_head=only_head,
    )


def list_digest(photos: PhotoSet, held_out: Flags) -> str:
    """The sha256 of what was taught: a line for each photo with its digest, its label and whether it was kept out."""
    lines = []
    for digest, label, held in zip(photos.digests, photos.classes.tolist(), held_out.tolist(), strict=True):
        name = photos.labels[label] if label != UNKNOWN else ""
        lines.append(f"{digest} {'held out' if held else 'taught'} {name}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _with_memory(
    photos: PhotoSet, known: Features | None, remembered: Remembered | None, compute: Callable[[Rows], Features]
) -> Features:
    """Features of all photos, those that are remembered taken from there."""
    rows, places = known_rows(photos.digests, remembered)
    new = np.setdiff1d(np.arange(len(photos.names)), rows)
    computed = compute(new)
    features = np.zeros((len(photos.names), computed.shape[1]), np.float32)
    features[new] = computed
    if known is not None:
        features[rows] = known[places]
    return features


def _retrain_head(
    network: TeachableNetwork, remembered: Remembered, photos: PhotoSet, features: Features, training: Rows
) -> None:
    """Fit the head anew to the features, beginning with what it was; a new class begins with its mean features."""
    inputs = torch.from_numpy(features[training])
    old = {label: row for row, label in enumerate(remembered.labels)}
    weight, bias = network.taught_head
    with torch.no_grad():
        for row, label in enumerate(photos.labels):
            if label in old:
                network.head.weight[row] = weight[old[label]] * remembered.temperature
                network.head.bias[row] = bias[old[label]] * remembered.temperature
    targets = torch.from_numpy(photos.classes[training])
    is_known = targets != UNKNOWN
    optimizer = torch.optim.AdamW(network.head.parameters(), 4e-4, weight_decay=0.0)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        logits = network.head(inputs[is_known])
        torch.nn.functional.cross_entropy(logits, targets[is_known], label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _progress(notify: Notify, deadline_s: float) -> Callable[[int, int], None]:
    started_s = time.monotonic()
    last_s = 0.0

    def progress(step: int, steps: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < 1.0 and step != steps:
            return
        last_s = now_s
        left_s = (now_s - started_s) / step * (steps - step)
        notify(StepsDone.of(f"teaching, about {left_s:.0f} s left", step / steps))

    return progress


def _other_class(probabilities: Features, classes: Rows) -> Rows:
    others = probabilities.copy()
    others[np.arange(len(classes)), classes] = -1
    return np.asarray(others.argmax(axis=1), np.int64)


def _curve(features: Features, photos: PhotoSet, held: Flags, seed: int) -> tuple[tuple[int, float], ...]:
    """What a linear classifier of the base's features reaches with a part of the photos, and with all of them."""
    known = photos.classes != UNKNOWN
    judged = np.flatnonzero(held & known)
    training = np.random.default_rng(seed).permutation(np.flatnonzero(~held & known))
    if not len(judged) or len(training) < 4 * len(photos.labels):
        return ()
    unit = torch.from_numpy(COSINE_SCALE * unit_rows(features - features.mean(axis=0)))
    points = []
    for share in CURVE_SHARES:
        rows = training[: round(share * len(training))]
        head = linear_head(unit[rows], torch.from_numpy(photos.classes[rows]), len(photos.labels), seed)
        with torch.no_grad():
            right = head(unit[judged]).argmax(1).numpy() == photos.classes[judged]
        points.append((len(rows), float(right.mean())))
    return tuple(points)


__all__ = ["NEAR_DUPLICATE", "Lesson", "StepsDone", "TeachRequest", "list_digest", "teach"]
