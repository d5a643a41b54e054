"""torch's DataLoader over a lazy batch sampler -> Iterator[Batch]; survives the deaths of its decode processes."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.children import importing, starting_children
from pipeline.cpus import CpuSet
from pipeline.decode import DecodeRules
from pipeline.decoder_process import DecodeDataset
from pipeline.decoder_watch import TICK_S, DecoderWatch, Loss
from pipeline.errors import WorkerDiedError
from pipeline.feed import Feed
from pipeline.fork_server import end_stopped_fork_server, start_fork_server
from pipeline.outcomes import Outcomes
from pipeline.records import Batch, FileRef
from pipeline.slab import Slab
from pipeline.strikes import DeathRate

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

_SHUTDOWN_WAIT_S = 5.0
_FRUITLESS_REBUILDS = 5


@dataclass(frozen=True, slots=True)
class LoaderPlan:
    """How the loader runs: `prefetch` batches per decode process; the deadline and the memory of one photo.

    Decode process `i` keeps to the CPUs of set `i` modulo their number; without sets it runs anywhere.
    `memory_bytes` is what a decoder may map beyond what it starts with; `recycle_bytes` bounds its resident memory.
    """

    workers: int
    prefetch: int
    cpu_sets: tuple[CpuSet, ...]
    timeout_s: float
    memory_bytes: int
    recycle_bytes: int


class Loader:
    """Decode processes behind a DataLoader; they live on from pass to pass."""

    def __init__(self, rules: DecodeRules, slab: Slab, plan: LoaderPlan) -> None:
        self._plan = plan
        self._watch = DecoderWatch(plan.workers, plan.timeout_s, plan.recycle_bytes)
        self._outcomes = Outcomes.sized(slab.slots, slab.batch_size)
        self._dataset = DecodeDataset(rules, slab, self._outcomes, self._watch.board, plan.memory_bytes, plan.cpu_sets)
        self._feed = Feed(slab.batch_size)
        self._loader: DataLoader[Any] | None = None
        self._source: Iterator[int] | None = None
        self._death_rate = DeathRate("decode")
        self._fruitless_rebuilds = 0
        self.restarts = 0

    @staticmethod
    def start() -> None:
        """Start the fork server, which imports torch meanwhile, beside the caller's own imports.

        Raises:
            WorkerDiedError: the system does not let it start.
        """
        try:
            start_fork_server()
        except OSError as error:
            raise WorkerDiedError(f"decode processes cannot be started: {error}") from error

    def prepare(self) -> None:
        """Import torch and make the DataLoader, which the first pass then finds ready."""
        if self._loader is not None:
            return
        with importing():
            from torch.utils.data import DataLoader

        self._watch.expect()
        with _without_advice():
            self._loader = DataLoader(
                self._dataset,  # type: ignore[arg-type]  # a map-style dataset by __getitems__ alone
                batch_sampler=self._feed,  # type: ignore[arg-type]  # lazy: a sampler without a length
                num_workers=self._plan.workers,
                prefetch_factor=self._plan.prefetch,
                collate_fn=_as_it_is,  # type: ignore[arg-type]  # the samples of a batch come as one slot
                worker_init_fn=self._dataset.begin,
                persistent_workers=True,
                multiprocessing_context="forkserver",
                in_order=False,
                timeout=TICK_S,
            )

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
            slot, is_over = self._next()
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
        """Let the DataLoader begin a pass; False where one of its processes is no more."""
        self.prepare()
        assert self._loader is not None
        try:
            with starting_children(), _without_advice():
                self._source = iter(self._loader)
        except (RuntimeError, OSError, EOFError):
            # A process that is gone, or the fork server, which the next one then starts.
            self._pass_on_failure()
            return False
        finally:
            self._watch.started()
        return True

    def _next(self) -> tuple[int | None, bool]:
        """Return which slot was decoded, None where that is none for now; and whether this DataLoader has no more."""
        assert self._source is not None
        try:
            return next(self._source), False
        except StopIteration:
            return None, True
        except RuntimeError as error:
            self._pass_on_failure()
            # The DataLoader says with one class "nothing within the tick" and "a process is gone".
            return None, "timed out" not in str(error)

    def _pass_on_failure(self) -> None:
        if self._feed.failure is not None:
            raise self._feed.failure

    def _rebuild(self, losses: list[Loss] | None = None) -> None:
        """Blame the photos that processes were lost with, start new ones, and hand out again what did not come back."""
        self._fruitless_rebuilds += 1
        if self._fruitless_rebuilds > _FRUITLESS_REBUILDS:
            raise WorkerDiedError("decode processes die before they have done anything; is the installation whole?")
        for loss in [*(losses or ()), *self._watch.losses()]:
            path = self._feed.strike(loss.slot, loss.position, loss.error_class, loss.reason)
            if path is not None:
                self._death_rate.count(path)
                self._fruitless_rebuilds = 0
        self._end_processes()
        self._feed.hand_out_again()
        self.restarts += 1
        if not self._has_begun():
            self._rebuild()

    def _end_processes(self) -> None:
        end_stopped_fork_server()
        self._watch.end_all()
        # torch's own shutdown takes a lock that a killed process may hold for ever, so it is not waited for that long.
        last_references = [self._source, self._loader]
        self._source = self._loader = None
        shutdown = threading.Thread(target=last_references.clear, daemon=True)
        shutdown.start()
        shutdown.join(_SHUTDOWN_WAIT_S)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """How many decode processes there are is the plan's affair, or the user's word, and not torch's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        yield


def _as_it_is(slot: int) -> int:
    return slot
