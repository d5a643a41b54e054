"""Whatever happens to the disk: the table is the old one or the new one, and the next run completes it."""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import ErrorClass, ItemError, Row
from pipeline.tables.part_store import PartStore
from pipeline.tables.source import recorded_source, sidecar_of, source_of
from tests.faults.disk import FaultKind, Step
from tests.faults.power import Disk, Survival, disk_after
from tests.faults.stub_run import ROWS_PER_PART, Ended, StubRequest, StubRuns

PHOTOS = 30
EVERY = pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.faults)], ids=["some", "all"])
SUFFIXES = pytest.mark.parametrize("suffix", [".parquet", ".csv"])


class Scene:
    """A folder of photos and a table that is behind it (or absent), to be disturbed again and again."""

    def __init__(self, home: Path, runs: StubRuns, suffix: str, has_table: bool) -> None:
        self.photos, self.results = home / "photos", home / "results"
        self.out = self.results / f"out{suffix}"
        self._runs = runs
        self.photos.mkdir()
        self.results.mkdir()
        if has_table:
            self._write("b", range(12))
            assert self.run().exit_code == 0
            shutil.rmtree(self.photos)
            self.photos.mkdir()
        self._write("a", range(PHOTOS // 2))
        self._write("b", range(4, 4 + PHOTOS // 2))
        self.before = self._results()
        assert self.run().exit_code == 0
        self.after = self._results()
        assert list(self.after) == [self.out.name]
        assert recorded_source(self.out) == source_of(self.photos, self.out)

    def _write(self, stem: str, numbers: range) -> None:
        for number in numbers:
            path = self.photos / f'{stem} "{number}"\n.png'
            path.write_bytes(f"{stem} {number}".encode())
            os.utime(path, ns=(0, 1_000_000 * number))

    def _results(self) -> dict[str, bytes]:
        record = sidecar_of(self.out)
        return {path.name: path.read_bytes() for path in self.results.iterdir() if path != record}

    def reset(self) -> None:
        """Put the table back as it was before."""
        shutil.rmtree(self.results)
        self.results.mkdir()
        for name, content in self.before.items():
            (self.results / name).write_bytes(content)

    def run(self, kind: FaultKind = "none", at: int = 0, steps_to: str = "") -> Ended:
        """One run, disturbed as told."""
        return self._runs.run(StubRequest(str(self.photos), str(self.out), kind, at, steps_to))

    def steps(self, home: Path) -> list[Step]:
        """What an undisturbed run does to the disk."""
        self.reset()
        self.run(steps_to=str(home / "steps"))
        found: list[Step] = pickle.loads((home / "steps").read_bytes())
        return found

    def check_table(self) -> None:
        """The table is the old one or the new one, not something between."""
        found = self.out.read_bytes() if self.out.exists() else None
        assert found in (self.before.get(self.out.name), self.after[self.out.name])

    def check_recovery(self) -> int:
        """The next run completes the table, byte for byte, and leaves nothing beside it."""
        ended = self.run()
        assert ended.exit_code == 0
        assert self._results() == self.after
        return ended.labelled


@pytest.fixture
def new_scene(tmp_path: Path, stub_runs: StubRuns) -> Callable[[str, bool], Scene]:
    return lambda suffix, has_table: Scene(tmp_path, stub_runs, suffix, has_table)


@pytest.fixture(params=["no table yet", "an older table"])
def has_table(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "an older table")


@EVERY
@SUFFIXES
def test_killed_at_any_step_twice_in_a_row(
    new_scene: Callable[[str, bool], Scene],
    tmp_path: Path,
    suffix: str,
    has_table: bool,
    stride: int,
    tried: Counter[str],
) -> None:
    scene = new_scene(suffix, has_table)
    count = len([step for step in scene.steps(tmp_path) if step.action != "committed"])
    assert count > 30
    for at in range(1, count + 1, stride):
        scene.reset()
        assert scene.run("kill", at).exit_code == -9
        scene.check_table()
        scene.run("kill", 1 + at * 5 % 23)
        scene.check_table()
        scene.check_recovery()
        tried["SIGKILL at the k-th write, fsync, rename, twice in a row"] += 1


@EVERY
@SUFFIXES
@pytest.mark.parametrize("kind", ["enospc", "eio"])
def test_a_failing_disk_ends_the_run_with_74_and_harms_nothing(
    new_scene: Callable[[str, bool], Scene],
    tmp_path: Path,
    suffix: str,
    has_table: bool,
    kind: FaultKind,
    stride: int,
    tried: Counter[str],
) -> None:
    scene = new_scene(suffix, has_table)
    steps = [step for step in scene.steps(tmp_path) if step.action != "committed"]
    for at in range(1, len(steps) + 1, stride):
        scene.reset()
        # What fails after the table is published, or while something temporary goes, need not be an error.
        assert scene.run(kind, at).exit_code in ((0, 74) if steps[at - 1].action == "unlink" else (74,)), steps[at - 1]
        scene.check_table()
        scene.check_recovery()
        tried[f"{kind.upper()} at the k-th write, fsync, rename"] += 1


@EVERY
@pytest.mark.parametrize("survival", Survival)
def test_the_power_fails_at_any_step(
    new_scene: Callable[[str, bool], Scene],
    tmp_path: Path,
    has_table: bool,
    stride: int,
    survival: Survival,
    tried: Counter[str],
) -> None:
    scene = new_scene(".parquet", has_table)
    steps = scene.steps(tmp_path)
    for stop in range(1, len(steps) + 1, stride):
        scene.reset()
        disk_after(Disk.of(scene.results), steps[:stop]).write_to(scene.results, survival)
        scene.check_table()
        committed = sum(step.action == "committed" for step in steps[:stop])
        assert scene.check_recovery() <= PHOTOS - ROWS_PER_PART * max(0, committed - 1)
        tried[f"power loss: {survival}"] += 1


@EVERY
def test_a_flipped_byte_in_a_part_costs_that_part_and_no_row(
    new_scene: Callable[[str, bool], Scene], tmp_path: Path, stride: int, tried: Counter[str]
) -> None:
    scene = new_scene(".parquet", False)
    steps = [step for step in scene.steps(tmp_path) if step.action != "committed"]
    publishing = next(
        at
        for at, step in enumerate(steps, 1)
        if step.action == "create" and Path(step.path).name.startswith(".out.parquet.")
    )
    scene.reset()
    scene.run("kill", publishing)
    state = scene.results / ".out.parquet.label-dir"
    parts = {part.name: part.read_bytes() for part in state.glob("part-*")}
    assert len(parts) == 5
    name, content = min(parts.items())
    for place in range(0, len(content), 40 * stride):
        for other, whole in parts.items():
            (state / other).write_bytes(whole)
        (state / name).write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        assert scene.check_recovery() in (0, ROWS_PER_PART)
        state.mkdir()
        scene.out.unlink()
        tried["a flipped byte in a part"] += 1


@EVERY
def test_no_flipped_bit_of_a_part_is_overlooked(tmp_path: Path, stride: int, tried: Counter[str]) -> None:
    _store_of_seven_rows(tmp_path).commit()
    (part,) = tmp_path.glob("part-*")
    content = part.read_bytes()
    assert len(PartStore(tmp_path, 1).recover()) == 1
    for place in range(0, len(content), stride):
        flipped = content[place] ^ 1 << place % 8
        part.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        assert PartStore(tmp_path, 1).recover() == [], place
        part.with_suffix(".damaged").replace(part)
        tried["a flipped bit of a part, at every byte"] += 1


def _store_of_seven_rows(folder: Path) -> PartStore:
    store = PartStore(folder, 1)
    for number in range(7):
        error = ItemError(ErrorClass.DECODE, "damaged") if number == 3 else None
        labels, probabilities = ((), ()) if error else ((f"label {number}",), (0.5,))
        store.add(Row(f"{number}.png", error, labels, probabilities, 4, 3, 99, 7, "ab" * 32, "m@0", 5))
    return store


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"not a part at all"], ids=["empty", "the beginning of one", "something else"]
)
def test_what_is_no_part_is_set_aside(
    new_scene: Callable[[str, bool], Scene], content: bytes, tried: Counter[str]
) -> None:
    scene = new_scene(".parquet", True)
    scene.reset()
    state = scene.results / ".out.parquet.label-dir"
    state.mkdir()
    (state / "part-00000003.parquet").write_bytes(content)
    shutil.copy(scene.out, state / "part-00000004.parquet")
    scene.check_recovery()
    tried["a foreign part"] += 1


def test_a_full_disk_leaves_the_old_table_and_room_makes_it_new(
    stub_runs: StubRuns, small_disk: Path, tmp_path: Path, tried: Counter[str]
) -> None:
    photos, out = tmp_path / "photos", small_disk / "out.parquet"
    photos.mkdir()
    request = StubRequest(str(photos), str(out))
    for number in range(3):
        (photos / f"{number}.png").write_bytes(b"photo")
    assert stub_runs.run(request).exit_code == 0
    old = out.read_bytes()
    for _ in range(6000):
        name = f"{secrets.token_hex(110)}.png"
        (photos / name).write_bytes(name.encode())
    assert stub_runs.run(request).exit_code == 74
    assert out.read_bytes() == old
    assert stub_runs.run(request).exit_code == 74
    assert out.read_bytes() == old
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert stub_runs.run(request).exit_code == 0
    assert list(small_disk.iterdir()) == [out]
    tried["a table on a 1 MB disk that is full"] += 1
