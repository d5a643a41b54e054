"""Nodes of a Ray cluster and the driver, killed or frozen at random moments: every photo keeps its one row."""

from __future__ import annotations

import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.conftest import Command, write_photos
from tests.jobs.scaling.test_ray import PARTS, URL, ended, merged, on_ray, rows_of, wait_until
from tests.support.object_store import FaultProxy, moto_in_environment
from tests.support.own_network import in_own_network
from tests.support.ray_nodes import RayNodes, running_ray

_PHOTOS = 5_000
_MOMENTS = 20
_DEEDS = ("kill a node", "freeze a node", "kill the driver")


@pytest.fixture
def ray_nodes() -> Iterator[RayNodes]:
    with running_ray() as nodes:
        yield nodes


@pytest.fixture
def store(ray_nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A store in the network of the nodes."""
    with moto_in_environment(monkeypatch) as proxy:
        yield proxy


@pytest.mark.faults
@in_own_network
def test_nodes_and_drivers_die_or_freeze_at_random_moments_over_a_folder(
    ray_nodes: RayNodes, label_dir: Command, tiny_model: Artifact, tmp_path: Path, tried: Counter[str]
) -> None:
    write_photos(tmp_path / "photos", _PHOTOS)

    def begin() -> Callable[[], bool]:
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        return (tmp_path / "parts/ranges.json").exists

    at_random_moments(Trial(ray_nodes, {}, label_dir, tiny_model, tmp_path, "photos", "parts/", begin), tried)


@pytest.mark.faults
@in_own_network
def test_nodes_and_drivers_die_or_freeze_at_random_moments_over_a_bucket(
    ray_nodes: RayNodes,
    store: FaultProxy,
    label_dir: Command,
    tiny_model: Artifact,
    tmp_path: Path,
    tried: Counter[str],
) -> None:
    write_photos(tmp_path / "photos", _PHOTOS)
    store.put_folder(tmp_path / "photos", "photos/")

    def begin() -> Callable[[], bool]:
        store.delete_all("labels/")
        store.gets.clear()
        return lambda: any(key.startswith("photos/") for key in list(store.gets))

    at_random_moments(Trial(ray_nodes, store.environment, label_dir, tiny_model, tmp_path, URL, PARTS, begin), tried)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is labelled where; `begin` removes the parts, and returns what tells that the next run is at work."""

    nodes: RayNodes
    environment: dict[str, str]
    label_dir: Command
    model: Artifact
    folder: Path
    photos: str
    parts: str
    begin: Callable[[], Callable[[], bool]]


def at_random_moments(trial: Trial, tried: Counter[str]) -> None:
    """Label all photos again and again, each time with another death or sleep on the way; the rows stay the same."""
    assert trial.label_dir(trial.photos, "single.parquet").returncode == 0
    single = rows_of(trial.folder / "single.parquet")
    nodes = [trial.nodes.add(trial.environment), trial.nodes.add(trial.environment)]
    chance = random.Random(17)
    for moment in range(_MOMENTS):
        is_at_work = trial.begin()
        options = ("--part-rows", "250", "--ray-late", "3s", trial.photos, trial.parts)
        process = on_ray(trial.nodes, trial.model, trial.folder, *options)
        wait_until(is_at_work, process)
        threading.Event().wait(chance.uniform(0, 10))
        deed, node = _DEEDS[moment % len(_DEEDS)], chance.choice(nodes)
        if deed == "kill the driver":
            process.kill()
            process.communicate()
            process = on_ray(trial.nodes, trial.model, trial.folder, *options)
        elif deed == "freeze a node":
            trial.nodes.freeze(node)
        else:
            trial.nodes.kill(node)
            nodes[nodes.index(node)] = trial.nodes.add(trial.environment)
        told = ended(process)
        assert process.returncode == 0, told
        if deed == "freeze a node":
            trial.nodes.thaw(node)
        assert merged(trial.folder, trial.parts).equals(single)
        tried[f"Ray: {deed}"] += 1
