"""Tuning keeps sizes that are clearly faster, and a plan says where its sizes come from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import Artifact
from pipeline.planning.autotune import photos_per_s, search
from pipeline.planning.plan import Settings, Sizes, default_sizes, plan_for
from pipeline.planning.tuning_cache import read_tuned, tuned_path, write_tuned
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import this_machine
from tests.conftest import Command, write_photos

DEFAULT = Sizes(8, 1, 8, 16)


@pytest.mark.parametrize(
    ("rate", "best"),
    [
        (lambda sizes: 100.0, DEFAULT),
        (lambda sizes: 100.0 + sizes.threads, DEFAULT),
        (lambda sizes: 100.0 * sizes.threads, Sizes(2, 4, 8, 16)),
        (lambda sizes: 100.0 / sizes.threads + sizes.workers, Sizes(8, 1, 16, 16)),
        (lambda sizes: 100.0 + sizes.batch_size, Sizes(8, 1, 8, 32)),
        (lambda sizes: 1000.0 / sizes.batch_size * sizes.threads, Sizes(2, 4, 8, 8)),
    ],
)
def test_the_search_finds_clearly_faster_sizes_or_keeps_the_default(
    rate: Callable[[Sizes], float], best: Sizes
) -> None:
    assert search(DEFAULT, 8, rate) == best


def test_one_lucky_trial_does_not_change_the_plan() -> None:
    seen: set[Sizes] = set()

    def rate(sizes: Sizes) -> float:
        is_first = sizes not in seen
        seen.add(sizes)
        return 200.0 if is_first and sizes != DEFAULT else 100.0

    assert search(DEFAULT, 8, rate) == DEFAULT


def test_a_trial_repeats_the_photos_of_the_user(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    refs = list(walk(tmp_path / "photos", WalkRules(), WalkCounts()))
    plan = plan_for(this_machine(), Settings(pool=1, workers=1, batch_size=2))
    began_s = time.monotonic()
    assert photos_per_s(tiny_model, plan, refs, 0.5) > 0
    assert time.monotonic() - began_s > 0.5


def test_later_runs_use_the_tuned_sizes(tiny_model: Artifact, label_dir: Command, tmp_path: Path) -> None:
    expected = write_photos(tmp_path / "photos", 5)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    before = label_dir("--show-plan", "photos", "out.parquet", env=cache)
    assert before.returncode == 0, before.stderr
    assert "not tuned" in before.stdout
    assert not (tmp_path / "out.parquet").exists()
    kept = tmp_path / "cache" / "label-dir" / "tuned"
    kept = kept / tuned_path(tiny_model.model_id, "onnxruntime", this_machine()).name
    write_tuned(kept, Sizes(1, 1, 3, 2))
    after = label_dir("--show-plan", "photos", "out.parquet", env=cache)
    assert "decoders      3: tuned on this machine" in after.stdout
    assert "batch         2 photos: tuned on this machine" in after.stdout
    own = label_dir("--show-plan", "-j", 1, "photos", "out.parquet", env=cache)
    assert "decoders      1: as you set it" in own.stdout
    done = label_dir("photos", "out.csv", env=cache)
    assert done.returncode == 0, done.stderr
    assert f"{len(expected)} labelled" in done.stderr


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pool": 0, "threads": 1, "workers": 1, "batch_size": 1}', "\x00"])
def test_a_damaged_tuning_counts_as_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(text)
    assert read_tuned(path) is None


def test_a_tuning_belongs_to_its_model_engine_and_machine(tmp_path: Path) -> None:
    machine = this_machine()
    paths = {tuned_path(model, engine, machine) for model in ("a@1", "a@2") for engine in ("onnxruntime", "torch")}
    assert len(paths) == 4
    write_tuned(tmp_path / "x.json", default_sizes(machine))
    assert read_tuned(tmp_path / "x.json") == default_sizes(machine)
    assert set(json.loads((tmp_path / "x.json").read_text())) == {"pool", "threads", "workers", "batch_size"}


def test_there_must_be_photos_to_tune_with(label_dir: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = label_dir("--tune", "photos", "out.parquet")
    assert done.returncode == 66
    assert "no photo to try plans on" in done.stderr
