"""Photos and their classes -> the weights of a taught network, and all that was found out on the way.

Runs in a process of its own, whose memory ends with it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from models.errors import StoppedError, UsageError, output_errors
from models.networks.checkpoint import read_checkpoint
from models.system.isolated_call import Notify
from models.teaching.audit import doubts, out_of_fold_logits
from models.teaching.confidence import best_temperature, least_probability, softmax
from models.teaching.familiarity import familiarity, least_familiarity, references_of
from models.teaching.lesson import Lesson, StepsDone, TeachRequest
from models.teaching.linear_classifier import learning_curve
from models.teaching.memory_file import Remembered, known_rows
from models.teaching.photo_set import UNKNOWN, Flags, Rows
from models.teaching.plan import Plan, memory_mb, plan, recipe_of
from models.teaching.similarity import Features, bursts, groups, near_duplicates, same_bytes
from models.teaching.split import kept_out
from models.teaching.training.head import begin_with_means, retrain_head
from models.teaching.training.teachable_network import TeachableNetwork
from models.teaching.training.train import Trained, computes_bfloat16, features_of, keep_freed_memory, train
from models.zoo import SPECS, find_weights

# A training of less than this share of its plan is told of.
ON_PLAN = 0.8
# A training that is stopped before each photo was seen so often leaves nothing.
FEWEST_EPOCHS_KEPT = 1.0


@dataclass(frozen=True, slots=True)
class _Material:
    """The photos as the published network sees them: features, near-duplicates, groups, which are kept out, and the
    logits of a linear classifier that did not see the photo, float32 [known photos, classes]."""

    features: Features
    pairs: list[tuple[int, int, float]]
    held: Flags
    fold_logits: Features


def teach(notify: Notify, request: TeachRequest) -> Lesson:
    """Teach, and write the weights to `request.checkpoint`.

    Raises LabelDirError; StoppedError where the training was stopped before there was anything to keep.
    """
    torch.set_num_threads(request.threads)
    keep_freed_memory()
    photos, count = request.photos, len(request.photos.labels)
    if count < 2:
        raise UsageError(f"there is one class only, {photos.labels[0]!r}: two are needed to tell apart")
    network = TeachableNetwork(request.base, read_checkpoint(find_weights(SPECS[request.base].weights)), count)
    network.uses_bfloat16 = computes_bfloat16() if request.bfloat16 is None else request.bfloat16
    network.recomputes = memory_mb(request.base, network.uses_bfloat16) > request.memory_mb
    material = _material(notify, network, request)
    training = np.flatnonzero(~material.held)
    if not (photos.classes[training] != UNKNOWN).any():
        raise UsageError("there is no photo to learn from")
    planned = plan(
        len(training),
        request.minutes,
        request.base,
        request.threads,
        network.uses_bfloat16,
        network.recomputes,
        request.is_quantization_aware,
    )
    if request.epochs is not None:
        planned = replace(planned, epochs=request.epochs)
    trained = None
    if request.weights is None:
        begin_with_means(network, material.features, photos, training)
        trained = _trained(notify, network, request, planned, training)
        features = _features(notify, network, request, None)
    else:
        assert request.remembered is not None
        network.load_published_form(read_checkpoint(request.weights))
        features = _features(notify, network, request, request.remembered.features)
        retrain_head(network, request.remembered, photos, features, training)
    return _judged(network, request, material, features, trained, planned)


def _material(notify: Notify, network: TeachableNetwork, request: TeachRequest) -> _Material:
    photos, remembered = request.photos, request.remembered
    features = _features(notify, network, request, remembered.base_features if remembered else None, has_learnt=False)
    pairs = near_duplicates(features)
    alike = [(first, second) for first, second, _ in pairs]
    joined = groups(len(photos.names), [*alike, *same_bytes(photos.digests), *bursts(photos.moments)])
    before = remembered.held_out if remembered else ()
    held = photos.held_out if photos.held_out is not None else kept_out(photos.classes, joined, photos.digests, before)
    known = photos.classes != UNKNOWN
    fold_logits = out_of_fold_logits(
        features[known], photos.classes[known], joined[known], len(photos.labels), request.seed
    )
    return _Material(features, pairs, held, fold_logits)


def _features(
    notify: Notify, network: TeachableNetwork, request: TeachRequest, kept: Features | None, has_learnt: bool = True
) -> Features:
    """Features of all photos, float32 [n, features]; those that are `kept`, in the order of what is remembered, are
    taken from there."""
    photos = request.photos
    remembered: Remembered | None = request.remembered if kept is not None else None
    rows, places = known_rows(photos.digests, remembered)
    new = np.setdiff1d(np.arange(len(photos.names)), rows)

    def progress(done: int, total: int) -> None:
        notify(StepsDone.of(f"looking at photos, {done} of {total}", done / max(1, total), has_learnt))

    computed = features_of(network, photos, new, SPECS[request.base].preprocessing, progress)
    features = np.zeros((len(photos.names), computed.shape[1]), np.float32)
    features[new] = computed
    if kept is not None:
        features[rows] = kept[places]
    return features


def _trained(
    notify: Notify, network: TeachableNetwork, request: TeachRequest, planned: Plan, training: Rows
) -> Trained:
    preprocessing = SPECS[request.base].preprocessing
    recipe = recipe_of(planned, len(training), request.seed)
    progress = _progress(notify, request)
    trained = train(network, request.photos, training, preprocessing, recipe, request.deadline_s, progress)
    if request.stop_file.exists():
        if trained.epochs < FEWEST_EPOCHS_KEPT:
            raise StoppedError("stopped before each photo was seen once, so nothing is kept of this training")
        notify(f"stopped after each photo was seen {trained.epochs:.1f} times; what was learnt is judged and certified")
    elif trained.epochs < ON_PLAN * planned.epochs:
        notify(
            f"this machine was slower than planned: each photo was seen {trained.epochs:.1f} times instead of "
            f"{planned.epochs:.1f}; give it more --minutes, with --fresh"
        )
    if request.is_quantization_aware and not request.stop_file.exists():
        network.rounds = True
        # Rounded values are float32, and each is kept besides the value before.
        network.recomputes = memory_mb(request.base, network.uses_bfloat16, rounds=True) > request.memory_mb
        train(network, request.photos, training, preprocessing, recipe.rounded, request.deadline_s, progress)
        network.rounds = False
    return trained


def _progress(notify: Notify, request: TeachRequest) -> Callable[[int, int], bool]:
    started_s = time.monotonic()
    last_s = 0.0

    def progress(step: int, steps: int) -> bool:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= 1.0 or step == steps:
            last_s = now_s
            left_s = (now_s - started_s) / step * (steps - step)
            notify(StepsDone.of(f"teaching, about {left_s:.0f} s left", step / steps, has_learnt=True))
        return not request.stop_file.exists()

    return progress


def _judged(
    network: TeachableNetwork,
    request: TeachRequest,
    material: _Material,
    features: Features,
    trained: Trained | None,
    planned: Plan,
) -> Lesson:
    """Calibrate the network on the photos kept out, write its weights, and tell what is known of each photo."""
    photos, held = request.photos, material.held
    known = photos.classes != UNKNOWN
    judged, taught = held & known, ~held & known
    with torch.no_grad():
        logits = network.head(torch.from_numpy(features)).numpy()
    kinds = [material.fold_logits]
    if trained is not None:
        seen = logits.copy()
        seen[~held] = trained.mean_logits
        kinds.append(seen[known])
    temperature = best_temperature(logits[judged], photos.classes[judged])
    with torch.no_grad():
        network.head.weight.div_(temperature)
        network.head.bias.div_(temperature)
    logits = logits / np.float32(temperature)
    references = references_of(features[taught], photos.classes[taught], request.seed)
    scores = familiarity(features, references)
    all_doubts, suspects = np.full(len(known), -np.inf), np.full(len(known), UNKNOWN)
    all_doubts[known] = doubts(kinds, photos.classes[known])
    suspects[known] = _other_class(np.sum([softmax(kind) for kind in kinds], axis=0), photos.classes[known])
    write_weights(network, request.checkpoint)
    return Lesson(
        held_out=held,
        logits=logits,
        base_features=material.features,
        features=features,
        references=references,
        familiarity=scores,
        doubts=all_doubts,
        suspects=suspects,
        pairs=tuple(material.pairs),
        curve=learning_curve(material.features, photos, held, request.seed),
        temperature=temperature,
        min_probability=least_probability(softmax(logits[judged]), photos.classes[judged], request.precision),
        min_familiarity=least_familiarity(scores[judged]),
        epochs=trained.epochs if trained else 0.0,
        epochs_planned=planned.epochs,
        epochs_worthwhile=planned.epochs_worthwhile,
        only_head=trained is None,
        recomputes=network.recomputes,
    )


def write_weights(network: TeachableNetwork, path: Path) -> None:
    """Write a network's weights as torch does, through memory: of a full disk torch tells nothing that a user could
    read. Raises OutputError."""
    stream = io.BytesIO()
    torch.save(network.published_form(), stream)
    with output_errors(path):
        path.write_bytes(stream.getvalue())


def _other_class(probabilities: Features, classes: Rows) -> Rows:
    others = probabilities.copy()
    others[np.arange(len(classes)), classes] = -1
    return np.asarray(others.argmax(axis=1), np.int64)
