"""torch's DataLoader over the same dataset and batch sampler; importing torch for it takes 2 s and 500 MB."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from models.system.watchdog import TICK_S
from models.system.worker import enter_child, starting_children
from pipeline.loading.data_loader import DataLoader, Decoded, NotDecoded
from pipeline.loading.fork_server import forked_processes, garbage_collector_paused

if TYPE_CHECKING:
    import torch.utils.data

_SHUTDOWN_WAIT_S = 5.0


class TorchDataLoader(DataLoader):
    """torch's DataLoader with the arguments and the methods of ours."""

    _loader: torch.utils.data.DataLoader[Any] | None = None
    _source: Iterator[int] | None = None

    def prepare(self) -> None:
        """Import torch and make the DataLoader, which the first pass then finds ready."""
        if self._loader is not None:
            return
        with garbage_collector_paused():
            import torch.utils.data

        with _without_advice():
            self._loader = torch.utils.data.DataLoader(
                self._dataset,  # type: ignore[arg-type]  # a map-style dataset by __getitems__ alone
                batch_sampler=self._batch_sampler,  # type: ignore[arg-type]  # lazy: a sampler without a length
                num_workers=self._num_workers,
                prefetch_factor=self._prefetch_factor,
                collate_fn=_unchanged,  # type: ignore[arg-type]  # the samples of a batch come as one slot
                worker_init_fn=functools.partial(_init_worker, self._worker_init_fn),
                persistent_workers=True,
                multiprocessing_context="forkserver",
                in_order=False,
                timeout=TICK_S,
            )

    def start_pass(self) -> None:
        """Let the DataLoader start a pass, and its workers where there are none.

        Raises:
            RuntimeError, OSError, EOFError: a worker, or the fork server, has ended.
        """
        self.prepare()
        assert self._loader is not None
        with _without_advice(), starting_children():
            self._source = iter(self._loader)

    @property
    def processes(self) -> list[BaseProcess]:
        """All processes of the fork server: torch does not tell which are its own."""
        return list(forked_processes())

    def take(self, timeout_s: float = TICK_S) -> Decoded | NotDecoded:
        """Return the next slot that was decoded, waiting at most a tick, or why there is none.

        torch fixes the timeout when its DataLoader is made, so `timeout_s` changes nothing here.
        """
        assert self._source is not None
        began_s = time.monotonic()
        try:
            return Decoded(next(self._source))
        except StopIteration:
            return NotDecoded.EXHAUSTED
        except RuntimeError:
            # torch raises one class of error where nothing came within the tick, where a worker has ended, and for
            # most of what a worker may raise.
            has_waited = time.monotonic() - began_s >= TICK_S
            is_complete = len(forked_processes()) == self._num_workers
            return NotDecoded.PENDING if has_waited and is_complete else NotDecoded.WORKER_GONE

    def discard(self) -> None:
        """Drop the DataLoader after its workers have ended; `prepare` makes another."""
        # torch's own shutdown takes a lock that a killed worker may hold for ever, so it is not waited for that long.
        last_references = [self._source, self._loader]
        self._source = self._loader = None
        shutdown = threading.Thread(target=last_references.clear, daemon=True)
        shutdown.start()
        shutdown.join(_SHUTDOWN_WAIT_S)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence torch's advice on how many workers to have: the plan or the user decides that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _init_worker(worker_init_fn: Callable[[int], None], worker_id: int) -> None:
    enter_child()
    worker_init_fn(worker_id)


def _unchanged(slot: int) -> int:
    return slot
