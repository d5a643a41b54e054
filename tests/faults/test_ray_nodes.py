"""Nodes of a Ray cluster and the driver, killed or frozen at random moments: every photo keeps its one row."""

from __future__ import annotations

import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.conftest import Command, write_photos
from tests.jobs.scaling.test_ray import ended, merged, on_ray, rows_of
from tests.support.own_network import in_own_network
from tests.support.ray_nodes import RayNodes, running_ray

_PHOTOS = 5_000
_MOMENTS = 20
_DEEDS = ("kill a node", "freeze a node", "kill the driver")


@pytest.fixture
def ray_nodes() -> Iterator[RayNodes]:
    with running_ray() as nodes:
        yield nodes


@pytest.mark.faults
@in_own_network
def test_nodes_and_drivers_die_or_freeze_at_random_moments(
    ray_nodes: RayNodes, label_dir: Command, tiny_model: Artifact, tmp_path: Path, tried: Counter[str]
) -> None:
    write_photos(tmp_path / "photos", _PHOTOS)
    assert label_dir("photos", "single.parquet").returncode == 0
    single = rows_of(tmp_path / "single.parquet")
    nodes = [ray_nodes.add(), ray_nodes.add()]
    chance = random.Random(17)
    for moment in range(_MOMENTS):
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        arguments = (ray_nodes, tiny_model, tmp_path, "--part-rows", "250", "--ray-late", "3s", "photos", "parts/")
        process = on_ray(*arguments)
        while not (tmp_path / "parts/ranges.json").exists():
            assert process.poll() is None, ended(process)
            threading.Event().wait(0.02)
        threading.Event().wait(chance.uniform(0, 10))
        deed, node = _DEEDS[moment % len(_DEEDS)], chance.choice(nodes)
        if deed == "kill the driver":
            process.kill()
            process.communicate()
            process = on_ray(*arguments)
        elif deed == "freeze a node":
            ray_nodes.freeze(node)
        else:
            ray_nodes.kill(node)
            nodes[nodes.index(node)] = ray_nodes.add()
        told = ended(process)
        assert process.returncode == 0, told
        if deed == "freeze a node":
            ray_nodes.thaw(node)
        assert merged(tmp_path, "parts").equals(single)
        tried[f"Ray: {deed}"] += 1
