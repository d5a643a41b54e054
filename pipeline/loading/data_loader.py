"""Decode processes on pipes of our own: they start at once and stay small, because they import no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import ForkingPickler

from pipeline.loading.decode_worker import DecodeDataset, Work
from pipeline.loading.worker_monitor import TICK_S, kill_and_wait
from pipeline.system.child_process import pipe_to_child

# A process that is at work reads nothing, so no more than surely fits into its pipe is sent ahead.
_PIPE_BYTES = 1 << 16
# A number and no pickle: who has opened untrusted files tells nothing that could run here.
_ANSWER_BYTES = 4
# Who waits for work and does not read it within this is stopped from outside.
_SEND_TIMEOUT_S = 5


@dataclass(slots=True)
class _Member:
    """A decode process, our end of its pipe, and the bytes of each Work that it has not answered."""

    process: ForkServerProcess
    connection: Connection
    sent_bytes: deque[int] = field(default_factory=deque)


class DataLoader:
    """`workers` processes that each decode one Work of `feed` while up to `prefetch` - 1 more wait for them."""

    def __init__(self, dataset: DecodeDataset, feed: Iterator[Work], workers: int, prefetch: int) -> None:
        self._dataset = dataset
        self._feed = feed
        self._workers = workers
        self._prefetch = prefetch
        self._members: list[_Member] = []
        self._next_work: bytes | None = None
        self._decoded: deque[int] = deque()
        self._is_exhausted = False

    def prepare(self) -> None:
        """Start the processes."""
        while len(self._members) < self._workers:
            self._members.append(_started(self._dataset, len(self._members)))

    def begin(self) -> None:
        """Take from the feed, which may have come to an end before, again."""
        self.prepare()
        self._is_exhausted = False

    def take(self) -> tuple[int | None, bool]:
        """Return which slot was decoded, None where none was within a tick; and whether no more come of these."""
        try:
            self._hand_out()
            if not self._decoded and not self._receive():
                return None, True
        except (EOFError, OSError):
            # Whoever it was is no more, or will not be asked again.
            return None, True
        return (self._decoded.popleft() if self._decoded else None), False

    def forget(self) -> None:
        """Drop the processes, which have been ended."""
        for member in self._members:
            member.connection.close()
        self._members.clear()
        self._decoded.clear()
        self._next_work = None

    def _hand_out(self) -> None:
        while not self._is_exhausted:
            member = min(self._members, key=lambda member: len(member.sent_bytes))
            if len(member.sent_bytes) >= self._prefetch:
                return
            if self._next_work is None:
                work = next(self._feed, None)
                self._is_exhausted = work is None
                self._next_work = None if work is None else bytes(ForkingPickler.dumps(work))
            content = self._next_work
            if content is None or (member.sent_bytes and sum(member.sent_bytes) + len(content) > _PIPE_BYTES):
                return
            self._next_work = None
            member.sent_bytes.append(len(content))
            with _ending(member):
                member.connection.send_bytes(content)

    def _receive(self) -> bool:
        """Wait a tick for slots; False where nobody is at work."""
        at_work = {member.connection: member for member in self._members if member.sent_bytes}
        for connection in wait(list(at_work), TICK_S) if at_work else ():
            member = at_work[connection]  # type: ignore[index]  # wait() returns what it was given
            with _ending(member):
                self._decoded.append(int.from_bytes(member.connection.recv_bytes(_ANSWER_BYTES)))
            member.sent_bytes.popleft()
        return bool(at_work)


@contextlib.contextmanager
def _ending(member: _Member) -> Iterator[None]:
    """End the member where talking to it fails, and return when it is gone: only then is it known what it was at."""
    try:
        yield
    except (EOFError, OSError):
        kill_and_wait([member.process.pid] if member.process.pid else [])
        raise


def _started(dataset: DecodeDataset, number: int) -> _Member:
    with pipe_to_child() as (ours, theirs):
        # A copy, because what a socket is made of it closes.
        with socket.socket(fileno=os.dup(ours.fileno())) as pipe:
            pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0))
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_serve, args=(theirs, dataset, number), daemon=True)
        process.start()
    return _Member(process, ours)


def _serve(connection: Connection, dataset: DecodeDataset, number: int) -> None:
    """Decode what comes through `connection` until its other end closes."""
    dataset.begin(number)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            slot = dataset.__getitems__(connection.recv())
            connection.send_bytes(slot.to_bytes(_ANSWER_BYTES))
