"""Our DataLoader and torch's, over the same dataset and batch sampler: the same names, batches and failures."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import pytest

from models.artifact import Artifact
from models.system.process_state import kill_and_wait
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.loading.loader import Loader, LoaderPlan
from pipeline.loading.loader_kind import LOADER_NAMES, LoaderKind
from pipeline.records import Batch, FileRef, ItemError, PhotoFacts
from pipeline.sources.local_files import LOCAL_FILES, LocalFiles, LocalReader
from pipeline.sources.read_file import FileBytes, ReadLimits
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.shared_array import Slab
from tests.conftest import write_photos

_SLOTS = 5


def test_the_former_name_of_torchs_loader_is_still_understood() -> None:
    assert [LoaderKind(name) for name in LOADER_NAMES] == [LoaderKind.PIPES, LoaderKind.TORCH, LoaderKind.TORCH]
    assert LOADER_NAMES == ("pipes", "torch", "dataloader")
    with pytest.raises(ValueError, match="'pipe' is not a valid LoaderKind"):
        LoaderKind("pipe")


class _SlowReader(LocalReader):
    """Writes down each file it reads, and reads none while `held` is there."""

    def __init__(self, limits: ReadLimits, held: Path) -> None:
        super().__init__(limits)
        self._held = held

    def read(self, ref: FileRef) -> FileBytes | ItemError:
        with self._held.with_suffix(".log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        while self._held.exists():
            time.sleep(0.005)
        return super().read(ref)


@dataclass(frozen=True, slots=True)
class _SlowFiles(LocalFiles):
    held: Path = Path()

    def open(self, limits: ReadLimits, timeout_s: float) -> LocalReader:
        return _SlowReader(limits, self.held)


@contextlib.contextmanager
def running(kind: LoaderKind, model: Artifact, source: LocalFiles = LOCAL_FILES) -> Iterator[Loader]:
    slab = Slab.sized(_SLOTS, 4, model.preprocessing.crop.crop_size)
    plan = LoaderPlan(2, 2, (), 60.0, 4 << 30, 4 << 30, kind)
    loader = Loader(DecodeRules(model.preprocessing.crop, ReadLimits()), slab, plan, source)
    with contextlib.closing(slab), contextlib.closing(loader):
        loader.start_fork_server()
        loader.prepare()
        yield loader


@pytest.fixture(params=list(LoaderKind))
def loader(request: pytest.FixtureRequest, tiny_model: Artifact) -> Iterator[Loader]:
    with running(request.param, tiny_model) as loader:
        yield loader


@pytest.fixture
def refs(tmp_path: Path) -> list[FileRef]:
    write_photos(tmp_path, 30)
    return list(walk(tmp_path, WalkRules(), WalkCounts()))


def decoded(loader: Loader, refs: Iterator[FileRef]) -> Iterator[Batch]:
    """Decode a pass, each batch's slot being free again as soon as the batch has come."""
    free = list(range(_SLOTS))
    for batch in loader.batches(refs, free.pop):
        if batch is not None:
            free.append(batch.slot)
            yield batch


def names_of(loader: Loader, refs: list[FileRef]) -> list[str]:
    return sorted(ref.name for batch in decoded(loader, iter(refs)) for ref in batch.refs)


def test_every_file_is_in_one_batch_pass_after_pass_by_the_same_workers(loader: Loader, refs: list[FileRef]) -> None:
    expected = sorted(ref.name for ref in refs)
    assert names_of(loader, refs) == expected
    workers = {process.pid for process in multiprocessing.active_children()}
    assert len(workers) == 2
    assert names_of(loader, refs) == expected
    assert {process.pid for process in multiprocessing.active_children()} == workers
    assert loader.restarts == 0


@pytest.mark.parametrize("error", [RuntimeError("the walk failed"), OSError("the walk failed")])
def test_a_failure_of_the_walk_is_raised_as_it_is_and_ends_no_worker(
    loader: Loader, refs: list[FileRef], error: Exception
) -> None:
    def failing() -> Iterator[FileRef]:
        yield from refs[:13]
        raise error

    with pytest.raises(type(error), match="the walk failed"):
        list(decoded(loader, failing()))
    assert loader.restarts == 0
    loader.discard_pass()
    assert names_of(loader, refs) == sorted(ref.name for ref in refs)


def test_a_killed_worker_costs_no_file(loader: Loader, refs: list[FileRef]) -> None:
    batches = decoded(loader, iter(refs))
    found = list(next(batches).refs)
    multiprocessing.active_children()[0].kill()
    found += [ref for batch in batches for ref in batch.refs]
    assert sorted(found) == sorted(refs)


def test_photos_whose_workers_ended_with_the_fork_server_are_not_suspect(
    tiny_model: Artifact, refs: list[FileRef], tmp_path: Path
) -> None:
    held, log = tmp_path / "held", tmp_path / "held.log"
    held.touch()
    log.touch()

    def kill_fork_servers() -> None:
        # A photo that three workers died with would get an error row.
        for kill in range(4):
            while len(log.read_text().split()) < 2 * (kill + 1):
                time.sleep(0.005)
            kill_and_wait([forkserver._forkserver._forkserver_pid])  # type: ignore[attr-defined]
        held.unlink()

    killer = threading.Thread(target=kill_fork_servers)
    with running(LoaderKind.PIPES, tiny_model, _SlowFiles(held=held)) as loader:
        killer.start()
        batches = list(decoded(loader, iter(refs)))
        killer.join()
        assert loader.restarts >= 4
    assert sorted(ref for batch in batches for ref in batch.refs) == sorted(refs)
    assert all(isinstance(outcome, PhotoFacts) for batch in batches for outcome in batch.outcomes)
