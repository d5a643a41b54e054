"""Object -> bytes, in a decode worker: requests run ahead of the decoding, each within a time limit of its own.

Requests begin in the order in which objects are expected, at most _THREADS at a time, and only while what is under way
and what waits to be decoded is below _AHEAD_BYTES. An object larger than that is fetched when nothing else is.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDoneInTime
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from pipeline.records import ErrorClass, FileRef, ItemError
from pipeline.sources.read_file import FileBytes, ReadLimits
from pipeline.sources.store_client import error_of, etag_of, opened_store
from pipeline.sources.store_url import StoreUrl

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# With 100 ms a GET, 32 at a time bring 300 objects a second.
_THREADS = 32
_AHEAD_BYTES = 64 << 20
# A body that breaks off is continued by obstore; where the store cannot do that, the object is requested anew.
_REQUESTS_OF_AN_OBJECT = 3
_THREAD_STACK_BYTES = 512 << 10
# glibc keeps up to 8 heaps a core for threads, each with free space of its own: two save 14 MB a decode worker.
_M_ARENA_MAX, _HEAPS = -8, 2
_WAIT_FOR_START_S = 0.1


def _bound_heaps() -> None:
    # Other C libraries than glibc have no such number.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _HEAPS)


@dataclass(slots=True)
class _Fetch:
    """An object that is expected; `began_s` is 0 until its request begins."""

    ref: FileRef
    future: Future[FileBytes | ItemError] = field(default_factory=Future)
    began_s: float = 0.0


class StoreReader:
    """Fetches the objects of one bucket."""

    def __init__(self, url: StoreUrl, limits: ReadLimits, timeout_s: float) -> None:
        _bound_heaps()
        self._store: ObjectStore = opened_store(url, timeout_s)
        self._limits = limits
        self._timeout_s = timeout_s
        threading.stack_size(_THREAD_STACK_BYTES)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._lock = threading.Lock()
        # A key can be expected again before it was read: the search for a plan reads the same photos over and over.
        self._expected: defaultdict[str, deque[_Fetch]] = defaultdict(deque)
        self._not_begun: deque[_Fetch] = deque()
        self._ahead_bytes = 0

    def expect(self, refs: Sequence[FileRef]) -> None:
        """Request `refs` as soon as there is room, in this order."""
        with self._lock:
            for ref in refs:
                fetch = _Fetch(ref)
                self._expected[ref.path].append(fetch)
                self._not_begun.append(fetch)
        self._begin_requests()

    def wait(self, ref: FileRef) -> None:
        """Return when the object is there, or its time is over."""
        fetch = self._next(ref)
        while True:
            # The time runs from the request on: an object that waits for a thread is not late.
            left_s = fetch.began_s + self._timeout_s - time.monotonic() if fetch.began_s else _WAIT_FOR_START_S
            if fetch.began_s and left_s <= 0:
                return
            try:
                fetch.future.result(left_s)
                return
            except NotDoneInTime:
                continue

    def read(self, ref: FileRef) -> FileBytes | ItemError:
        """Return the content of the object, or why there is none; without a `wait` before, waits."""
        self.wait(ref)
        with self._lock:
            fetch = self._expected[ref.path].popleft()
            if not self._expected[ref.path]:
                del self._expected[ref.path]
            self._ahead_bytes -= ref.size_bytes
        self._begin_requests()
        if fetch.future.done():
            return fetch.future.result()
        return ItemError(ErrorClass.IO, f"the object has not arrived within {self._timeout_s:g} s")

    def _next(self, ref: FileRef) -> _Fetch:
        if ref.path not in self._expected:
            self.expect([ref])
        return self._expected[ref.path][0]

    def _begin_requests(self) -> None:
        with self._lock:
            while self._not_begun:
                size_bytes = self._not_begun[0].ref.size_bytes
                if self._ahead_bytes and self._ahead_bytes + size_bytes > _AHEAD_BYTES:
                    return
                self._ahead_bytes += size_bytes
                self._threads.submit(self._fetch, self._not_begun.popleft())

    def _fetch(self, fetch: _Fetch) -> None:
        fetch.began_s = time.monotonic()
        try:
            fetch.future.set_result(self._content(fetch))
        except MemoryError:
            reason = "reading needs more memory than a decoder may have"
            fetch.future.set_result(ItemError(ErrorClass.TOO_LARGE, reason))
        except Exception as error:
            fetch.future.set_result(error_of(error))

    def _content(self, fetch: _Fetch) -> FileBytes | ItemError:
        """Return the content of an object, or why there is none; raises what obstore raises."""
        import obstore

        for number in count(1):
            answer = obstore.get(self._store, fetch.ref.path)
            facts = answer.meta
            if facts["size"] > self._limits.file_bytes:
                reason = f"{facts['size']} bytes, the limit is {self._limits.file_bytes}"
                return ItemError(ErrorClass.TOO_LARGE, reason)
            try:
                content = bytes(answer.bytes())
            except obstore.exceptions.BaseError:
                # obstore has repeated a request that failed, but continues a body only where the store can do that.
                if number == _REQUESTS_OF_AN_OBJECT or time.monotonic() - fetch.began_s > self._timeout_s:
                    raise
                continue
            if len(content) != facts["size"]:
                return ItemError(ErrorClass.IO, f"{len(content)} of {facts['size']} bytes arrived")
            if not content:
                return ItemError(ErrorClass.EMPTY, "the file has no bytes")
            return FileBytes(content, round(facts["last_modified"].timestamp() * 1e6), etag_of(facts))
        raise AssertionError("the loop ends by itself")
