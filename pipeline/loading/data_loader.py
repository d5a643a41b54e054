"""Our DataLoader: torch's arguments and their meaning, over pipes. It starts at once and stays small: no torch."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue

from models.system.watchdog import TICK_S
from models.system.worker import WORKER_GONE, Worker, WorkerOptions, start_worker
from pipeline.loading.decode_worker import DecodeDataset, Work

# A worker that is decoding reads nothing, so no more than surely fits into its pipe is sent ahead.
_PIPE_BYTES = 1 << 16
# A number and no pickle: a worker that has opened untrusted files sends nothing that could run here.
_ANSWER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Decoded:
    """A Work was decoded into this slot."""

    slot: int


class NotDecoded(Enum):
    """Why a take has no slot: none was decoded in time, all are, or a worker failed or has ended."""

    PENDING = auto()
    EXHAUSTED = auto()
    WORKER_GONE = auto()


@dataclass(slots=True)
class _Decoder:
    """A worker and the bytes of each Work that it was sent and has not answered."""

    worker: Worker
    sent_bytes: deque[int] = field(default_factory=deque)


class DataLoader:
    """`num_workers` processes that decode the Works of `batch_sampler`, in the order in which they are finished.

    Each worker calls `worker_init_fn` with its number first. `prefetch_factor` Works are sent to a worker at a time.
    The workers live on from pass to pass.
    """

    def __init__(
        self,
        dataset: DecodeDataset,
        batch_sampler: Iterator[Work],
        num_workers: int,
        prefetch_factor: int,
        worker_init_fn: Callable[[int], None],
    ) -> None:
        self._dataset = dataset
        self._batch_sampler = batch_sampler
        self._num_workers = num_workers
        self._prefetch_factor = prefetch_factor
        self._worker_init_fn = worker_init_fn
        self._decoders: list[_Decoder] = []
        self._next_work: bytes | None = None
        self._decoded: deque[int] = deque()
        self._is_exhausted = False

    def prepare(self) -> None:
        """Start the workers.

        Raises:
            OSError: the system does not let one start.
        """
        while len(self._decoders) < self._num_workers:
            number = len(self._decoders)
            options = WorkerOptions("forkserver", name=f"decoder-{number}")
            worker = start_worker(_serve, options, self._dataset, self._worker_init_fn, number)
            self._decoders.append(_Decoder(worker))

    def start_pass(self) -> None:
        """Start to take Works from the batch sampler again, after it came to an end; raises as `prepare` does."""
        self.prepare()
        self._is_exhausted = False

    @property
    def processes(self) -> list[BaseProcess]:
        """The workers' processes."""
        return [decoder.worker.process for decoder in self._decoders]

    @property
    def busy_connections(self) -> list[Connection]:
        """The pipes through which workers that have Works will answer."""
        return [decoder.worker.connection for decoder in self._decoders if decoder.sent_bytes]

    def take(self, timeout_s: float = TICK_S) -> Decoded | NotDecoded:
        """Return the next slot that was decoded, waiting at most `timeout_s`, or why there is none."""
        try:
            self._hand_out()
            if not self._decoded and not self._receive(timeout_s):
                return NotDecoded.EXHAUSTED
        except WORKER_GONE:
            return NotDecoded.WORKER_GONE
        return Decoded(self._decoded.popleft()) if self._decoded else NotDecoded.PENDING

    def discard(self) -> None:
        """End the workers and discard their Works; `prepare` starts others."""
        for decoder in self._decoders:
            decoder.worker.end()
        self._decoders.clear()
        self._decoded.clear()
        self._next_work = None

    def _hand_out(self) -> None:
        while not self._is_exhausted:
            decoder = min(self._decoders, key=lambda decoder: len(decoder.sent_bytes))
            if len(decoder.sent_bytes) >= self._prefetch_factor:
                return
            if self._next_work is None:
                work = next(self._batch_sampler, None)
                self._is_exhausted = work is None
                self._next_work = None if work is None else bytes(ForkingPickler.dumps(work))
            content = self._next_work
            if content is None or (decoder.sent_bytes and sum(decoder.sent_bytes) + len(content) > _PIPE_BYTES):
                return
            self._next_work = None
            decoder.sent_bytes.append(len(content))
            with _killed_on_failure(decoder.worker):
                decoder.worker.connection.send_bytes(content)

    def _receive(self, timeout_s: float) -> bool:
        """Wait for slots; False where no worker is at work."""
        busy = {decoder.worker.connection: decoder for decoder in self._decoders if decoder.sent_bytes}
        for connection in wait(list(busy), timeout_s) if busy else ():
            decoder = busy[connection]  # type: ignore[index]  # wait() returns what it was given
            with _killed_on_failure(decoder.worker):
                self._decoded.append(int.from_bytes(decoder.worker.connection.recv_bytes(_ANSWER_BYTES)))
            decoder.sent_bytes.popleft()
        return bool(busy)


@contextlib.contextmanager
def _killed_on_failure(worker: Worker) -> Iterator[None]:
    """Kill the worker where talking to it fails, so that its board row no longer changes when it is read."""
    try:
        yield
    except WORKER_GONE:
        worker.kill()
        raise


def _serve(
    connection: Connection, dataset: DecodeDataset, worker_init_fn: Callable[[int], None], worker_id: int
) -> None:
    """Decode the Works that come through `connection` until its other end closes."""
    # A method of this same `dataset`: the two were pickled together.
    worker_init_fn(worker_id)
    works = _noticed(connection, dataset) if dataset.reads_ahead else _received(connection)
    with contextlib.suppress(ConnectionError):
        for work in works:
            slot = dataset.decode(work)
            connection.send_bytes(slot.to_bytes(_ANSWER_BYTES))


def _received(connection: Connection) -> Iterator[Work]:
    """Yield the Works that come through `connection` until its other end closes."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            yield connection.recv()


def _noticed(connection: Connection, dataset: DecodeDataset) -> Iterator[Work]:
    """Yield the Works as `_received` does, each noticed by `dataset` when it arrives and not when its turn comes.

    Otherwise the network would stand still while the Work before is decoded.
    """
    waiting: SimpleQueue[Work | None] = SimpleQueue()

    def receive() -> None:
        try:
            for work in _received(connection):
                dataset.expect(work)
                waiting.put(work)
        finally:
            waiting.put(None)

    threading.Thread(target=receive, daemon=True).start()
    yield from iter(waiting.get, None)
