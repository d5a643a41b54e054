"""torch's DataLoader over a lazy batch sampler -> Iterator[Batch]; survives the deaths of its decode processes."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.children import cause_of_end, is_alive, kill, process_state, resident_bytes, starting_children
from pipeline.decode import DecodeRules
from pipeline.decoder_process import (
    BOARD_PID,
    BOARD_POSITION,
    BOARD_SINCE_NS,
    IDLE,
    Decoded,
    DecodeDataset,
    Work,
)
from pipeline.errors import WorkerDiedError
from pipeline.records import Batch, ErrorClass, FileRef, ItemError
from pipeline.slab import SharedArray, Slab
from pipeline.strikes import DeathRate

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_END_WAIT_S = 5.0
_FRUITLESS_REBUILDS = 5
# Processes also die of causes that are not the photo's, so one death proves nothing.
_STRIKES = {ErrorClass.WORKER_CRASH: 3, ErrorClass.TIMEOUT: 2}


@dataclass(frozen=True, slots=True)
class LoaderPlan:
    """How the loader runs: `prefetch` batches per decode process; the deadline and the memory of one photo.

    `memory_bytes` is what a decoder may map beyond what it starts with; `recycle_bytes` bounds its resident memory.
    """

    workers: int
    prefetch: int
    niceness: int
    timeout_s: float
    memory_bytes: int
    recycle_bytes: int


class _Feed:
    """The DataLoader's batch sampler: the walk itself, cut into Works as slots come free."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.refs: Iterator[FileRef] = iter(())
        self.acquire_slot: Callable[[], int] = lambda: 0
        self.again: deque[Work] = deque()
        self.outstanding: dict[int, Work] = {}

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Work:
        work = self.again.popleft() if self.again else self._cut()
        self.outstanding[work.slot] = work
        return work

    def _cut(self) -> Work:
        refs = tuple(islice(self.refs, self._batch_size))
        if not refs:
            raise StopIteration
        return Work(self.acquire_slot(), refs, (None,) * len(refs))


class Loader:
    """Decode processes behind a DataLoader; they live on from pass to pass."""

    def __init__(self, rules: DecodeRules, slab: Slab, plan: LoaderPlan) -> None:
        self._slab = slab
        self._plan = plan
        self._board = SharedArray((plan.workers, 4), np.int64)
        self._dataset = DecodeDataset(rules, slab, self._board, plan.memory_bytes, plan.niceness)
        self._feed = _Feed(slab.batch_size)
        self._loader: DataLoader[Any] | None = None
        self._strikes: dict[tuple[str, ErrorClass], int] = {}
        self._death_rate = DeathRate("decode")
        self._looked_at_s = time.monotonic()
        self._fruitless_rebuilds = 0
        self.restarts = 0

    @staticmethod
    def start() -> None:
        """Start the fork server, which imports torch meanwhile, beside the caller's own imports."""
        multiprocessing.get_context("forkserver").set_forkserver_preload(["pipeline.decode_server"])
        with starting_children():
            forkserver.ensure_running()

    def batches(self, refs: Iterator[FileRef], acquire_slot: Callable[[], int]) -> Iterator[Batch]:
        """Decode `refs`, pulled as slots come free, and yield batches in the order they are finished.

        `acquire_slot` returns a free slot of the slab and may wait for one. The caller frees a batch's slot.
        `refs` may end and a later pass go on with others; the decode processes stay.

        Raises:
            WorkerDiedError: decode processes die faster than restarting them makes sense.
        """
        self._feed.refs, self._feed.acquire_slot = refs, acquire_slot
        source = self._begin_pass()
        while True:
            if self._unhealthy():
                source = self._rebuild()
            try:
                decoded = next(source)
            except StopIteration:
                if not self._feed.outstanding:
                    return
                source = self._rebuild()
                continue
            except RuntimeError as error:
                # The DataLoader says with one class "nothing within the tick" and "a process is gone".
                if "timed out" not in str(error):
                    source = self._rebuild()
                continue
            self._fruitless_rebuilds = 0
            work = self._feed.outstanding.pop(decoded.slot)
            yield Batch(decoded.slot, work.refs, decoded.outcomes)

    def close(self) -> None:
        """End the decode processes."""
        self._end_processes()
        self._board.close()

    def prepare(self) -> None:
        """Import torch and make the DataLoader, which the first pass then finds ready."""
        if self._loader is not None:
            return
        from torch.utils.data import DataLoader

        self._board.array[:, BOARD_PID] = 0
        self._board.array[:, BOARD_POSITION] = IDLE
        self._loader = DataLoader(
            self._dataset,  # type: ignore[arg-type]  # a map-style dataset by __getitems__ alone
            batch_sampler=self._feed,  # type: ignore[arg-type]  # lazy: a sampler without a length
            num_workers=self._plan.workers,
            prefetch_factor=self._plan.prefetch,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # torch types samples as lists
            worker_init_fn=self._dataset.begin,
            persistent_workers=True,
            multiprocessing_context="forkserver",
            in_order=False,
            timeout=_TICK_S,
        )

    def _begin_pass(self) -> Iterator[Decoded]:
        self.prepare()
        assert self._loader is not None
        with starting_children():
            return iter(self._loader)

    def _unhealthy(self) -> bool:
        """Once a tick, kill what hangs or is stopped; tell whether a process is gone."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s < _TICK_S:
            return False
        if now_s - self._looked_at_s > self._plan.timeout_s / 2:
            # This process itself was stopped or asleep; what waited for it is not late.
            self._board.array[:, BOARD_SINCE_NS] = time.monotonic_ns()
        self._looked_at_s = now_s
        for row in range(self._plan.workers):
            self._look_at(row)
        return any(pid and not is_alive(pid) for pid in self._board.array[:, BOARD_PID].tolist())

    def _look_at(self, row: int) -> None:
        pid, slot, position, since_ns = (int(value) for value in self._board.array[row])
        if not pid:
            return
        if process_state(pid) == "T":
            logger.warning("a decode process was stopped from outside; it is restarted")
        elif position != IDLE and time.monotonic_ns() - since_ns > self._plan.timeout_s * 1e9:
            logger.warning("a photo takes longer than %.0f s to decode; its process is killed", self._plan.timeout_s)
            self._strike(slot, position, ErrorClass.TIMEOUT, f"no result within {self._plan.timeout_s:g} s")
        elif resident_bytes(pid) > self._plan.recycle_bytes and position == IDLE:
            logger.info("a decode process has grown past %d MB; it is replaced", self._plan.recycle_bytes >> 20)
        else:
            return
        self._board.array[row, BOARD_POSITION] = IDLE
        _kill_and_wait([pid])

    def _rebuild(self) -> Iterator[Decoded]:
        """Blame the photos that processes died with, start new processes, and decode again what did not come back."""
        self._fruitless_rebuilds += 1
        if self._fruitless_rebuilds > _FRUITLESS_REBUILDS:
            raise WorkerDiedError("decode processes die before they have done anything; is the installation whole?")
        for row, (pid, slot, position, _) in enumerate(self._board.array.tolist()):
            if pid and not is_alive(pid) and position != IDLE:
                cause = self._cause(row)
                logger.warning("a decode process died (%s); it is restarted", cause)
                self._strike(slot, position, ErrorClass.WORKER_CRASH, f"decode processes died with it ({cause})")
        self._end_processes()
        self._feed.again = deque(self._feed.outstanding.values())
        self.restarts += 1
        return self._begin_pass()

    def _cause(self, row: int) -> str:
        processes = getattr(getattr(self._loader, "_iterator", None), "_workers", ())
        return cause_of_end(processes[row].exitcode if row < len(processes) else None)

    def _strike(self, slot: int, position: int, error_class: ErrorClass, reason: str) -> None:
        """Note that a photo cost a process; past its limit it gets its error row without being opened again."""
        work = self._feed.outstanding.get(slot)
        if work is None:
            return
        path = work.refs[position].path
        self._death_rate.count(path)
        strikes = self._strikes.get((path, error_class), 0) + 1
        self._strikes[path, error_class] = strikes
        if strikes >= _STRIKES[error_class]:
            verdicts = list(work.verdicts)
            verdicts[position] = ItemError(error_class, reason)
            self._feed.outstanding[slot] = Work(slot, work.refs, tuple(verdicts))
        self._fruitless_rebuilds = 0

    def _end_processes(self) -> None:
        _kill_and_wait([pid for pid in self._board.array[:, BOARD_PID].tolist() if pid])
        self._loader = None


def _as_it_is(decoded: Decoded) -> Decoded:
    return decoded


def _kill_and_wait(pids: list[int]) -> None:
    for pid in pids:
        kill(pid)
    until_s = time.monotonic() + _END_WAIT_S
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until_s:
        time.sleep(0.005)
