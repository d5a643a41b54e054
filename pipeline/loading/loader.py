"""FileRefs -> batches of pixels in the slab, by decode processes over a lazy batch sampler; survives their deaths."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.decoding.decode import DecodeRules
from pipeline.errors import WorkerDiedError
from pipeline.loading.batch_sampler import BatchSampler
from pipeline.loading.data_loader import DataLoader
from pipeline.loading.decode_results import DecodeResults
from pipeline.loading.decode_worker import DecodeDataset
from pipeline.loading.fork_server import DATA_LOADER, PIPES, end_stopped_fork_server, start_fork_server
from pipeline.loading.torch_data_loader import TorchDataLoader
from pipeline.loading.worker_monitor import LostPhoto, WorkerMonitor
from pipeline.records import Batch, FileRef
from pipeline.system.child_process import starting_children
from pipeline.system.cpus import CpuSet
from pipeline.system.crash_limit import CrashLimit
from pipeline.system.shared_array import Slab

_FRUITLESS_REBUILDS = 5
_STARTS = 5
_START_PAUSE_S = 0.05

LoaderKind = Literal["pipes", "dataloader"]


class Decoders(Protocol):
    """Processes that decode what a feed hands out, those of `pipe_decoders` or `data_loader_decoders`."""

    def prepare(self) -> None: ...
    def begin(self) -> None: ...
    def take(self) -> tuple[int | None, bool]: ...
    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LoaderPlan:
    """How the loader runs: `prefetch` batches per decode process; the deadline and the memory of one photo.

    Decode process `i` keeps to the CPUs of set `i` modulo their number; without sets it runs anywhere.
    `memory_bytes` is what a decoder may map beyond what it starts with; `recycle_bytes` bounds its resident memory.
    `kind` is whose processes they are: "pipes" ours, "dataloader" those of torch's DataLoader, which imports torch.
    """

    workers: int
    prefetch: int
    cpu_sets: tuple[CpuSet, ...]
    timeout_s: float
    memory_bytes: int
    recycle_bytes: int
    kind: LoaderKind = "pipes"


class Loader:
    """Decode processes behind one feed; they live on from pass to pass."""

    def __init__(self, rules: DecodeRules, slab: Slab, plan: LoaderPlan) -> None:
        self._is_of_torch = plan.kind == "dataloader"
        self._watch = WorkerMonitor(plan.workers, plan.timeout_s, plan.recycle_bytes)
        self._outcomes = DecodeResults.sized(slab.slots, slab.batch_size)
        dataset = DecodeDataset(rules, slab, self._outcomes, self._watch.board, plan.memory_bytes, plan.cpu_sets)
        self._feed = BatchSampler(slab.batch_size)
        kind = TorchDataLoader if self._is_of_torch else DataLoader
        self._decoders: Decoders = kind(dataset, self._feed, plan.workers, plan.prefetch)
        self._death_rate = CrashLimit("decode")
        self._fruitless_rebuilds = 0
        self.restarts = 0

    def start(self) -> None:
        """Start the fork server, which loads what decoders need beside the caller's own imports.

        Raises:
            WorkerDiedError: the system does not let it start.
        """
        try:
            start_fork_server(DATA_LOADER if self._is_of_torch else PIPES)
        except OSError as error:
            raise WorkerDiedError(f"decode processes cannot be started: {error}") from error

    def prepare(self) -> None:
        """Have ready what the first pass needs."""
        # Where a process is no more, the pass replaces it.
        with contextlib.suppress(OSError, EOFError), starting_children():
            self._decoders.prepare()
        self._watch.started()

    def batches(self, refs: Iterator[FileRef], acquire_slot: Callable[[], int]) -> Iterator[Batch | None]:
        """Decode `refs`, pulled as slots come free, and yield batches in the order they are finished.

        Once a tick in which nothing is decoded None comes instead, so that the caller sees to what it has.

        `acquire_slot` returns a free slot of the slab and may wait for one. The caller frees a batch's slot.
        `refs` may end and a later pass go on with others; the decode processes stay.

        Raises:
            WorkerDiedError: decode processes die faster than restarting them makes sense.
        """
        self._feed.begin(refs, acquire_slot)
        if not self._has_begun():
            self._rebuild()
        while True:
            losses = self._watch.look()
            if losses or self._watch.is_someone_gone():
                self._rebuild(losses)
            slot, is_over = self._take()
            if slot is not None:
                self._fruitless_rebuilds = 0
                files = self._feed.returned(slot)
                yield Batch(slot, files, self._outcomes.read(slot, len(files)))
            elif is_over and not self._feed.is_waiting:
                return
            elif is_over:
                self._rebuild()
            else:
                yield None

    def drop(self) -> None:
        """Forget a pass that was left early; the processes that worked on it go with it."""
        self._end_processes()
        self._feed.forget()

    def close(self) -> None:
        """End the decode processes."""
        self._end_processes()
        self._watch.board.close()
        self._outcomes.close()

    def _has_begun(self) -> bool:
        """Let the decoders begin a pass; False where one of their processes is no more."""
        try:
            with starting_children():
                self._decoders.begin()
        except (RuntimeError, OSError, EOFError):
            # A process that is gone, or the fork server, which the next one then starts.
            self._pass_on_failure()
            return False
        finally:
            self._watch.started()
        return True

    def _take(self) -> tuple[int | None, bool]:
        slot, is_over = self._decoders.take()
        if is_over:
            self._pass_on_failure()
        return slot, is_over

    def _pass_on_failure(self) -> None:
        if self._feed.failure is not None:
            raise self._feed.failure

    def _rebuild(self, losses: list[LostPhoto] | None = None) -> None:
        """Blame the photos that processes were lost with, start new ones, and hand out again what did not come back."""
        self._fruitless_rebuilds += 1
        if self._fruitless_rebuilds > _FRUITLESS_REBUILDS:
            raise WorkerDiedError("decode processes die before they have done anything; is the installation whole?")
        for loss in [*(losses or ()), *self._watch.losses()]:
            path = self._feed.strike(loss.slot, loss.position, loss.error_class, loss.reason)
            if path is not None:
                self._death_rate.count(path)
                self._fruitless_rebuilds = 0
        self.restarts += 1
        for _ in range(_STARTS):
            self._end_processes()
            self._feed.hand_out_again()
            if self._has_begun():
                return
            # A fork server that was killed a moment ago is taken for a living one until the kernel has buried it.
            time.sleep(_START_PAUSE_S)
        raise WorkerDiedError("decode processes cannot be started; is the installation whole?")

    def _end_processes(self) -> None:
        end_stopped_fork_server()
        self._watch.end_all()
        self._decoders.forget()
