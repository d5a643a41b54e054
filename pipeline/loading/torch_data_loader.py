"""Decode processes of torch's DataLoader; importing torch for it takes 2 s and 500 MB."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.loading.batch_sampler import BatchSampler
from pipeline.loading.decode_worker import DecodeDataset
from pipeline.loading.worker_monitor import TICK_S
from pipeline.system.child_process import importing

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

_SHUTDOWN_WAIT_S = 5.0


class TorchDataLoader:
    """A DataLoader of `workers` processes over `feed`, its batch sampler, each `prefetch` Works ahead."""

    def __init__(self, dataset: DecodeDataset, feed: BatchSampler, workers: int, prefetch: int) -> None:
        self._dataset = dataset
        self._feed = feed
        self._workers = workers
        self._prefetch = prefetch
        self._loader: DataLoader[Any] | None = None
        self._source: Iterator[int] | None = None

    def prepare(self) -> None:
        """Import torch and make the DataLoader, which the first pass then finds ready."""
        if self._loader is not None:
            return
        with importing():
            from torch.utils.data import DataLoader

        with _without_advice():
            self._loader = DataLoader(
                self._dataset,  # type: ignore[arg-type]  # a map-style dataset by __getitems__ alone
                batch_sampler=self._feed,  # type: ignore[arg-type]  # lazy: a sampler without a length
                num_workers=self._workers,
                prefetch_factor=self._prefetch,
                collate_fn=_as_it_is,  # type: ignore[arg-type]  # the samples of a batch come as one slot
                worker_init_fn=self._dataset.begin,
                persistent_workers=True,
                multiprocessing_context="forkserver",
                in_order=False,
                timeout=TICK_S,
            )

    def begin(self) -> None:
        """Let the DataLoader begin a pass.

        Raises:
            RuntimeError, OSError, EOFError: one of its processes, or the fork server, is no more.
        """
        self.prepare()
        assert self._loader is not None
        with _without_advice():
            self._source = iter(self._loader)

    def take(self) -> tuple[int | None, bool]:
        """Return which slot was decoded, None where none was within a tick; and whether no more come of these."""
        assert self._source is not None
        try:
            return next(self._source), False
        except StopIteration:
            return None, True
        except RuntimeError as error:
            # The DataLoader says with one class "nothing within the tick" and "a process is gone".
            return None, "timed out" not in str(error)

    def forget(self) -> None:
        """Drop the processes, which have been ended."""
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
