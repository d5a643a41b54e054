"""What `--ray` promises: the table of a single run, whatever happens to nodes and to the process of the command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact, read_artifact
from tests.conftest import Command, command_path, write_photos
from tests.support.object_store import Fault, FaultProxy, moto_in_environment
from tests.support.own_network import in_own_network
from tests.support.ray_nodes import RayNodes, running_ray
from tests.support.store_servers import BUCKET

URL = f"s3://{BUCKET}/photos/"
PARTS = f"s3://{BUCKET}/labels/"


@pytest.fixture
def ray_nodes() -> Iterator[RayNodes]:
    with running_ray() as nodes:
        yield nodes


@pytest.fixture
def slow_store(ray_nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A store in the network of the nodes, which gives each photo after a while, so that something can happen."""
    with moto_in_environment(monkeypatch) as proxy:
        proxy.delay_s = 0.2
        yield proxy


def on_ray(nodes: RayNodes, model: Artifact, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start `label-dir --ray`."""
    command = [command_path("label-dir"), "-m", str(model.path), "--ray", nodes.address, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command and return what it said."""
    told: str = process.communicate(timeout=300)[1]
    return told


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for what a command does; it must not end meanwhile."""
    while not is_so():
        assert process.poll() is None, ended(process)
        threading.Event().wait(0.1)


def merged(folder: Path, parts: str) -> pa.Table:
    """Return the rows of parts, but for the one column that differs from run to run."""
    subprocess.run([command_path("label-merge"), parts, "merged.parquet"], cwd=folder, check=True, timeout=120)
    return rows_of(folder / "merged.parquet")


def rows_of(table: Path) -> pa.Table:
    return pq.read_table(table).drop_columns("labelled_at")


@in_own_network
def test_nodes_label_what_one_machine_labels_and_a_second_run_opens_nothing(
    ray_nodes: RayNodes, slow_store: FaultProxy, label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 60)
    (tmp_path / "photos/00030-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    slow_store.put_folder(tmp_path / "photos", "photos/")
    assert label_dir(URL, "single.parquet").returncode == 3
    # A node finds the store and its credentials in its own environment.
    for _ in range(2):
        ray_nodes.add(slow_store.environment)
    slow_store.gets.clear()
    # Modules of the user's in the working directory are none of ours.
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/__init__.py").write_text("raise SystemExit('of the user')")
    arguments = (ray_nodes, tiny_model, tmp_path, "--part-rows", "10", URL, PARTS)
    process = on_ray(*arguments)
    told = ended(process)
    assert process.returncode == 3, told
    assert "60 labelled, 1 failed" in told
    assert sum(int(count) for count in re.findall(r"^127\.0\.0\.\d+: (\d+) photos", told, re.MULTILINE)) == 61
    assert {count for key, count in slow_store.gets.items() if key.startswith("photos/")} == {1}
    assert merged(tmp_path, PARTS).equals(rows_of(tmp_path / "single.parquet"))
    slow_store.gets.clear()
    process = on_ray(*arguments, "--errors-ok")
    assert "61 unchanged" in ended(process)
    assert process.returncode == 0
    assert [key for key in slow_store.gets if key.startswith("photos/")] == []


@pytest.mark.faults
@in_own_network
def test_a_run_goes_on_after_its_driver_was_killed_or_told_to_stop(
    ray_nodes: RayNodes, slow_store: FaultProxy, label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 200)
    slow_store.put_folder(tmp_path / "photos", "photos/")
    slow_store.delay_s = 0
    assert label_dir(URL, "single.parquet").returncode == 0
    slow_store.delay_s = 0.2
    for _ in range(2):
        ray_nodes.add(slow_store.environment)
    arguments = (ray_nodes, tiny_model, tmp_path, "--part-rows", "20", URL, PARTS)
    slow_store.gets.clear()
    process = on_ray(*arguments)
    wait_until(lambda: len(slow_store.gets) > 60, process)
    process.kill()
    process.communicate()
    slow_store.gets.clear()
    process = on_ray(*arguments)
    wait_until(lambda: len(slow_store.gets) > 60, process)
    process.send_signal(signal.SIGINT)
    told = ended(process)
    assert process.returncode == 130, told
    process = on_ray(*arguments)
    told = ended(process)
    assert process.returncode == 0, told
    # What was labelled before is kept.
    assert "unchanged" in told
    assert merged(tmp_path, PARTS).equals(rows_of(tmp_path / "single.parquet"))


@in_own_network
def test_a_killed_and_a_frozen_node_cost_no_photo_and_do_not_hold_the_run(
    ray_nodes: RayNodes, label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_large_photos(tmp_path / "photos", 240)
    assert label_dir("photos", "single.parquet").returncode == 0
    nodes = [ray_nodes.add() for _ in range(3)]
    parts = tmp_path / "parts"
    process = on_ray(ray_nodes, tiny_model, tmp_path, "--part-rows", "10", "--ray-late", "3s", "photos", "parts/")
    at_work: list[str] = []

    def are_two_at_work() -> bool:
        at_work[:] = nodes_at_work(ray_nodes, nodes, parts)
        return len(at_work) >= 2

    wait_until(are_two_at_work, process)
    frozen, killed = at_work[:2]
    # It holds the lock of its part.
    ray_nodes.freeze(frozen)
    ray_nodes.kill(killed)
    told = ended(process)
    assert process.returncode == 0, told
    assert f"{frozen} has been silent for 3 s" in told
    assert f"{killed} was lost" in told or f"{killed} has been silent" in told
    ray_nodes.thaw(frozen)
    assert merged(tmp_path, "parts").equals(rows_of(tmp_path / "single.parquet"))


@in_own_network
def test_a_node_with_another_model_ends_the_run(
    ray_nodes: RayNodes, slow_store: FaultProxy, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 200)
    slow_store.put_folder(tmp_path / "photos", "photos/")
    # The run cannot end before this photo comes, which it never does.
    slow_store.faults[f"photos/{max(os.listdir(tmp_path / 'photos'))}"] = Fault(stall_s=240)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model.path.read_bytes())
    first = ray_nodes.add(slow_store.environment)
    process = on_ray(ray_nodes, read_artifact(path), tmp_path, "--timeout", "5m", URL, PARTS)
    # Photos are asked for by a node whose model is loaded.
    wait_until(lambda: any(key.startswith("photos/") for key in slow_store.gets), process)
    model = onnx.load(path)
    model.doc_string = "another file"
    (tmp_path / "another.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "another.onnx").replace(path)
    second = ray_nodes.add(slow_store.environment)
    told = ended(process)
    assert process.returncode == 2, told
    assert f"{tiny_model.model_id} on {first} and {read_artifact(path).model_id} on {second}" in told


def test_without_ray_its_extra_is_named(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    program = "import sys; sys.modules['ray'] = None; from jobs.label_dir import main; main()"
    command = [sys.executable, "-c", program, "--ray", "auto", "photos", "parts/"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "label-dir: --ray needs the extra `ray`: pip install 'label-dir[ray]'\n"


def write_large_photos(folder: Path, count: int) -> None:
    """Write photos of which each takes a while; no two have the same bytes."""
    folder.mkdir()
    large = folder / "large.jpg"
    Image.radial_gradient("L").resize((4000, 4000)).save(large)
    content = large.read_bytes()
    large.unlink()
    for number in range(count):
        (folder / f"{number:03d}.jpg").write_bytes(content + number.to_bytes(2, "big"))


def nodes_at_work(ray_nodes: RayNodes, nodes: list[str], parts: Path) -> set[str]:
    """Return the nodes whose processes hold the lock of a part."""
    pids = set()
    for lock in parts.glob(".part-*/lock"):
        with contextlib.suppress(OSError, ValueError):
            pids.add(json.loads(lock.read_text())["pid"])
    return {node for node in nodes if pids & {process.pid for process in ray_nodes.processes(node)}}
