"""Splits, thresholds, audits and plans: what a taught model's report and its "unsure" rest on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.teaching import familiarity as scores
from models.teaching.audit import doubts, out_of_fold_logits
from models.teaching.confidence import best_temperature, calibration_error, interval, least_probability, softmax
from models.teaching.familiarity import familiarity, least_familiarity, references_of
from models.teaching.figures import figures
from models.teaching.memory_file import Remembered, known_rows, read_memory, write_memory
from models.teaching.photo_set import Moment
from models.teaching.plan import plan
from models.teaching.similarity import Features, bursts, groups, near_duplicates, same_bytes
from models.teaching.split import kept_out
from models.teaching.training.train import Pace


def blobs(
    classes: int, photos: int, spread: float = 0.3, seed: int = 0
) -> tuple[Features, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Features of photos around a centre for each class, and the classes."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 32))
    labels = np.repeat(np.arange(classes), photos)
    return (centres[labels] + spread * random.normal(size=(len(labels), 32))).astype(np.float32), labels


def digests(count: int) -> tuple[str, ...]:
    return tuple(f"{index:064x}" for index in range(count))


def test_photos_of_one_burst_and_copies_never_lie_on_both_sides_of_the_split() -> None:
    moments = [Moment("phone", 100.0 * (row // 3) + row % 3) for row in range(60)]
    pairs = [*bursts(moments), *same_bytes([*digests(58), "same", "same"])]
    joined = groups(60, pairs)
    assert len(set(joined.tolist())) == 20
    held = kept_out(np.repeat([0, 1], 30), joined, digests(60))
    assert 0 < held.sum() < 30
    for group in set(joined.tolist()):
        assert len(set(held[joined == group].tolist())) == 1


def test_a_camera_that_did_not_take_both_photos_joins_none() -> None:
    assert list(bursts([Moment("one", 5.0), Moment("other", 6.0), None, Moment("one", 600.0)])) == []


def test_near_duplicates_are_found_with_their_cosine() -> None:
    features, _ = blobs(1, 40, spread=1.0)
    features[7] = features[3] + 0.01
    pairs = near_duplicates(features)
    assert pairs[0][:2] == (3, 7)
    assert pairs[0][2] > 0.99


def test_every_class_with_enough_photos_is_judged_and_none_with_few() -> None:
    classes = np.array([0] * 40 + [1] * 8 + [2] * 2 + [3])
    held = kept_out(classes, np.arange(len(classes)), digests(len(classes)))
    assert [int(held[classes == label].sum()) for label in range(4)] == [6, 1, 0, 0]


def test_what_was_kept_out_stays_so_when_photos_are_added() -> None:
    classes, names = np.zeros(60, np.int64), digests(60)
    first = kept_out(classes[:40], np.arange(40), names[:40])
    before = {name for name, held in zip(names, first, strict=False) if held}
    again = kept_out(classes, np.arange(60), names, before)
    assert again[:40][first].all()
    assert again.sum() == pytest.approx(9, abs=1)


def test_the_temperature_brings_probabilities_near_the_share_that_is_right() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 5)).astype(np.float32)
    drawn = np.array([random.choice(5, p=row) for row in softmax(logits)])
    overconfident = 4 * logits
    temperature = best_temperature(overconfident, drawn)
    assert temperature == pytest.approx(4, rel=0.15)
    assert (
        calibration_error(softmax(overconfident, temperature), drawn)
        < 0.03
        < calibration_error(softmax(overconfident), drawn)
    )


def test_the_threshold_gives_the_precision_that_was_asked_for() -> None:
    random = np.random.default_rng(1)
    logits = (2 * random.normal(size=(2000, 4))).astype(np.float32)
    drawn = np.array([random.choice(4, p=row) for row in softmax(logits)])
    probabilities = softmax(logits)
    threshold = least_probability(probabilities, drawn, 0.95)
    sure = probabilities.max(axis=1) >= threshold
    assert 0.1 < sure.mean() < 1
    assert (probabilities.argmax(axis=1) == drawn)[sure].mean() >= 0.95
    assert least_probability(probabilities[:0], drawn[:0], 0.95) == 0.0
    assert least_probability(probabilities, (probabilities.argmax(axis=1) + 1) % 4, 0.95) > 0.99


def test_the_interval_of_a_share_holds_it_and_is_wide_for_few_photos() -> None:
    low, high = interval(9, 10)
    assert 0.55 < low < 0.9 < high < 1
    assert interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("classes", [2, 12])
def test_photos_in_a_wrong_folder_are_among_the_most_doubtful(classes: int) -> None:
    features, labels = blobs(classes, 30, spread=0.5)
    wrong = np.arange(0, len(labels), 20)
    told = labels.copy()
    told[wrong] = (told[wrong] + 1) % classes
    logits = out_of_fold_logits(features, told, np.arange(len(told)), classes, 0)
    suspected = np.argsort(-doubts([logits], told))[: len(told) // 10]
    assert set(wrong.tolist()) <= set(suspected.tolist())


def test_photos_unlike_any_that_were_taught_are_less_familiar_than_known_ones() -> None:
    features, labels = blobs(6, 80)
    taught, kept_out = features[::2], features[1::2]
    references = references_of(taught, labels[::2], 0)
    known = familiarity(kept_out, references)
    threshold = least_familiarity(known)
    assert (known >= threshold).mean() == pytest.approx(0.95, abs=0.02)
    others, _ = blobs(6, 40, seed=9)
    assert (familiarity(others, references) < threshold).mean() > 0.95


def test_a_class_of_two_kinds_of_photos_is_familiar_in_both_and_not_between_them() -> None:
    features, _ = blobs(2, 40, spread=0.1)
    between = np.asarray((features[:40] + features[40:]) / 2, np.float32)
    references = references_of(features[::2], np.zeros(40, np.int64), 0)
    assert familiarity(features[1::2], references).min() > familiarity(between, references).max()


def test_too_many_photos_leave_the_same_room_to_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "MOST_PHOTOS", 20)
    features, labels = blobs(2, 40)
    rare = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:5]])
    references = references_of(features[rare], labels[rare], 0)
    assert references.photos.shape[1] == 20
    rare_scores = familiarity(features[rare][labels[rare] == 1], references)
    assert rare_scores == pytest.approx(1, abs=1e-5)


def test_five_hundred_classes_have_figures_and_the_worst_is_named() -> None:
    labels = tuple(f"class {index}" for index in range(500))
    classes = np.repeat(np.arange(500), 2)
    logits = np.zeros((1000, 500), np.float32)
    logits[np.arange(1000), classes] = 5
    logits[6:8] = 0
    logits[6:8, 4] = 5
    found = figures(labels, logits, classes, classes, 0.0)
    assert found.top1 == pytest.approx(0.998)
    assert found.worst is not None
    assert (found.worst.label, found.worst.recall) == ("class 3", 0)
    assert found.confusions == (("class 3", "class 4", 2),)
    assert found.classes[4].precision == pytest.approx(0.5)


def test_without_photos_kept_out_figures_are_unknown_not_perfect() -> None:
    found = figures(("a", "b"), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.array([0, 1]), 0.0)
    assert (found.top1, found.worst, found.classes[0].recall) == (None, None, None)


def test_the_memory_of_photos_survives_a_file_and_a_damaged_file_is_no_memory(tmp_path: Path) -> None:
    features, _ = blobs(2, 3)
    kept = Remembered("a.onnx", "base", ("x", "y"), digests(6), features, features, 1.5, digests(2), {"d": ("x", "y")})
    path = tmp_path / "teaching" / "shelf.npz"
    write_memory(path, kept)
    found = read_memory(path)
    assert found is not None
    assert dataclasses.replace(found, base_features=features, features=features) == kept
    np.testing.assert_allclose(found.features, features, rtol=1e-2, atol=1e-3)
    rows, places = known_rows((digests(9)[8], digests(9)[2]), found)
    assert (rows.tolist(), places.tolist()) == ([1], [2])
    path.write_bytes(path.read_bytes()[:200])
    assert read_memory(path) is None
    assert read_memory(tmp_path / "none.npz") is None


def test_a_plan_depends_on_the_minutes_and_the_machine_alone_and_stops_where_nothing_is_gained() -> None:
    first, default, hours = (plan(2640, minutes, "efficientnet_lite0", 2, True) for minutes in (2, 10, 600))
    assert 1 <= first.epochs < default.epochs <= hours.epochs == hours.epochs_worthwhile
    assert plan(2640, 10, "efficientnet_lite0", 2, False).epochs < default.epochs
    assert plan(2640, 10, "efficientnet_lite0", 2, True) == default


def test_a_training_that_runs_late_is_shortened_and_one_in_time_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("models.teaching.training.train.time.monotonic", lambda: now_s)
    late, punctual, hopeless = Pace(1000, 50, 100.0), Pace(100, 50, 100.0), Pace(1000, 50, 10.0)
    for step in range(1, 41):
        now_s += 0.5
        late.take(step)
        punctual.take(step)
        hopeless.take(step)
    assert (late.steps, punctual.steps, hopeless.steps) == (200, 100, 50)
