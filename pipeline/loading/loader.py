"""FileRefs -> batches of pixels in the slab, by decode workers over a lazy batch sampler; survives their deaths.

A pass goes on until the batch sampler is exhausted and each of its Works is finished. Whenever a worker has ended, all
are replaced and the unfinished Works are requeued: torch does not tell which worker has which Work.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from models.system.watchdog import TICK_S
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.errors import WorkerDiedError
from pipeline.loading.batch_sampler import BatchSampler
from pipeline.loading.data_loader import DataLoader, Decoded, NotDecoded
from pipeline.loading.decode_results import DecodeResults
from pipeline.loading.decode_worker import DecodeDataset
from pipeline.loading.fork_server import has_fork_server_died, kill_suspended_fork_server, start_fork_server
from pipeline.loading.loader_kind import LoaderKind
from pipeline.loading.torch_data_loader import TorchDataLoader
from pipeline.loading.worker_monitor import CrashedPhoto, WorkerMonitor
from pipeline.records import Batch, FileRef
from pipeline.sources.local_files import LOCAL_FILES
from pipeline.sources.source import ReaderMaker
from pipeline.system.cpus import CpuSet
from pipeline.system.crash_limit import CrashLimit
from pipeline.system.shared_array import Slab

logger = logging.getLogger(__name__)

_FRUITLESS_RESTARTS = 5
# A worker that waited for an object had started well, and a batch takes long where the network is slow; but workers
# that have too little memory to fetch with would die for ever.
_RESTARTS_WHILE_FETCHING = 60
_STARTS = 5
_START_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class LoaderPlan:
    """How the loader runs: `prefetch` batches per decode worker; the time limit and the memory of one photo.

    Decode worker `i` keeps to the CPUs of set `i` modulo their number; without sets it runs anywhere.
    `memory_bytes` is what a worker may map beyond what it starts with; `recycle_bytes` bounds its resident memory.
    """

    workers: int
    prefetch: int
    cpu_sets: tuple[CpuSet, ...]
    timeout_s: float
    memory_bytes: int
    recycle_bytes: int
    kind: LoaderKind = LoaderKind.PIPES


class Loader:
    """Decode workers over one batch sampler; they live on from pass to pass, and open files through `source`."""

    def __init__(self, rules: DecodeRules, slab: Slab, plan: LoaderPlan, source: ReaderMaker = LOCAL_FILES) -> None:
        self._kind = plan.kind
        self._monitor = WorkerMonitor(plan.workers, plan.timeout_s, plan.recycle_bytes)
        self._outcomes = DecodeResults.sized(slab.slots, slab.batch_size)
        dataset = DecodeDataset(
            source, plan.timeout_s, rules, slab, self._outcomes, self._monitor.board, plan.memory_bytes, plan.cpu_sets
        )
        self._sampler = BatchSampler(slab.batch_size)
        make = TorchDataLoader if plan.kind is LoaderKind.TORCH else DataLoader
        self._data_loader = make(
            dataset,
            self._sampler,
            num_workers=plan.workers,
            prefetch_factor=plan.prefetch,
            worker_init_fn=dataset.init_worker,
        )
        self._crash_limit = CrashLimit("decode")
        self._fruitless_restarts = 0
        self._restarts_while_fetching = 0
        self.restarts = 0

    def start_fork_server(self) -> None:
        """Start the fork server, which loads what decode workers need beside the caller's own imports.

        Raises:
            WorkerDiedError: the system does not let it start.
        """
        try:
            start_fork_server(self._kind)
        except OSError as error:
            raise WorkerDiedError(f"the fork server cannot be started: {error}") from error

    def prepare(self) -> None:
        """Start the decode workers ahead of the first pass, as far as the loader can."""
        # The pass tries again, and reports a second failure.
        with contextlib.suppress(OSError):
            self._data_loader.prepare()
        self._monitor.note_started(self._data_loader.processes)

    def batches(self, refs: Iterator[FileRef], acquire_slot: Callable[[], int]) -> Iterator[Batch | None]:
        """Decode `refs`, pulled as slots come free, and yield batches in the order they are finished.

        After a tick in which no batch was finished, yields None, so that the caller can go on with those it has.

        `acquire_slot` returns a free slot of the slab and may wait for one. The caller frees a batch's slot.
        `refs` may end and a later pass go on with others; the decode workers stay.

        Raises:
            WorkerDiedError: decode workers die faster than restarting them makes sense.
        """
        self._sampler.start_pass(refs, acquire_slot)
        self._take_up()
        yield from self._batches(TICK_S)

    def start_live_pass(self, refs: Iterator[FileRef], acquire_slot: Callable[[], int]) -> None:
        """Start a pass without an end for `decoded_now`: `refs` may end whenever there are no files for the moment."""
        self._sampler.start_pass(refs, acquire_slot)

    def decoded_now(self) -> Iterator[Batch]:
        """Hand out the files that the live pass has, and yield the batches that are decoded by now, without waiting.

        Raises:
            WorkerDiedError: decode workers die faster than restarting them makes sense.
        """
        self._take_up()
        for batch in self._batches(0.0):
            if batch is None:
                return
            yield batch

    @property
    def busy_connections(self) -> list[Connection]:
        """What becomes readable when a batch of the live pass is decoded, or its worker ends."""
        return self._data_loader.busy_connections

    def _take_up(self) -> None:
        """Let the workers ask the sampler for Works, also after it had none."""
        if not self._start_pass():
            self._restart()

    def _batches(self, timeout_s: float) -> Iterator[Batch | None]:
        while True:
            crashed = self._monitor.kill_faulty()
            if crashed or self._monitor.has_dead_worker():
                self._restart(crashed)
            taken = self._data_loader.take(timeout_s)
            if isinstance(taken, Decoded):
                self._fruitless_restarts = self._restarts_while_fetching = 0
                files = self._sampler.finish(taken.slot)
                yield Batch(taken.slot, files, self._outcomes.read(taken.slot, len(files)))
            elif taken is NotDecoded.PENDING:
                yield None
            else:
                self._raise_sampler_failure()
                if taken is NotDecoded.EXHAUSTED and not self._sampler.has_unfinished:
                    return
                self._restart()

    def discard_pass(self) -> None:
        """End a pass that was left early, and the workers, which are decoding for it."""
        self._end_workers()
        self._sampler.discard_pass()

    def close(self) -> None:
        """End the decode workers."""
        self._end_workers()
        self._monitor.board.close()
        self._outcomes.close()

    def _start_pass(self) -> bool:
        """Let the workers start a pass; False where one of them, or the fork server, has ended."""
        try:
            self._data_loader.start_pass()
        except (RuntimeError, OSError, EOFError):
            self._raise_sampler_failure()
            return False
        finally:
            self._monitor.note_started(self._data_loader.processes)
        return True

    def _raise_sampler_failure(self) -> None:
        if self._sampler.failure is not None:
            raise self._sampler.failure

    def _restart(self, crashed: Sequence[CrashedPhoto] = ()) -> None:
        """Record which photos crashed a worker, restart the workers, requeue unfinished Works."""
        if self._monitor.has_died_while_fetching():
            self._fruitless_restarts = 0
            self._restarts_while_fetching += 1
        self._fruitless_restarts += 1
        if self._fruitless_restarts > _FRUITLESS_RESTARTS or self._restarts_while_fetching > _RESTARTS_WHILE_FETCHING:
            raise WorkerDiedError("decode workers die before they have decoded anything; is the installation whole?")
        for photo in [*crashed, *self._suspects()]:
            path = self._sampler.record_crash(photo.slot, photo.position, photo.error_class, photo.reason)
            if path is not None:
                self._crash_limit.count(path)
                self._fruitless_restarts = 0
        self.restarts += 1
        for _ in range(_STARTS):
            self._end_workers()
            self._sampler.requeue_unfinished()
            if self._start_pass():
                return
            # multiprocessing takes a fork server that was killed a moment ago for a living one.
            time.sleep(_START_PAUSE_S)
        raise WorkerDiedError("decode workers cannot be started; is the installation whole?")

    def _suspects(self) -> Iterator[CrashedPhoto]:
        """The photos that workers may have died of: none where they ended with their fork server."""
        if not has_fork_server_died():
            return self._monitor.crashed_photos()
        logger.warning("the fork server died, and the decode workers with it; all are restarted")
        return iter(())

    def _end_workers(self) -> None:
        kill_suspended_fork_server()
        self._monitor.kill_all(self._data_loader.processes)
        self._data_loader.discard()
