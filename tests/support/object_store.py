"""A proxy before a server of an object store, which counts requests and makes them fail; on loopback."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
import pytest

from tests.support.store_servers import BUCKET, StoreServer, moto

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_HOP_BY_HOP = {"connection", "transfer-encoding", "server", "date", "content-length"}


@dataclass(slots=True)
class Fault:
    """What happens to requests of one object: an HTTP status with an S3 code, a body cut short, or no answer.

    `times` of them fail and the others are answered; `stall_s` is how long the server says nothing.
    """

    status: int = 0
    code: str = ""
    is_cut: bool = False
    stall_s: float = 0.0
    times: float = float("inf")


@dataclass
class FaultProxy:
    """Passes requests to the server; `gets` counts those of objects by key, `listings` those that list.

    Each GET of an object takes `delay_s` longer; `most_at_once` of them were waiting at a time. After `gets_of_token`
    GETs the credentials have expired. A listing has `keys_per_page`; `listing_faults` are by its number, from 1,
    and `listed_as` are keys that it gives in place of others.
    """

    server: StoreServer
    faults: dict[str, Fault] = field(default_factory=dict)
    gets: Counter[str] = field(default_factory=Counter)
    listings: int = 0
    delay_s: float = 0.0
    gets_of_token: float = float("inf")
    keys_per_page: int = 0
    listing_faults: dict[int, Fault] = field(default_factory=dict)
    listed_as: dict[str, str] = field(default_factory=dict)
    is_unsorted: bool = False
    at_once: int = 0
    most_at_once: int = 0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, key: str) -> Fault | None:
        """Count a GET of an object; return its fault, if it is to fail this time."""
        with self.lock:
            self.gets[key] += 1
            is_expired = self.gets.total() > self.gets_of_token
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.delay_s)
        with self.lock:
            self.at_once -= 1
            if is_expired:
                return Fault(403, "ExpiredToken")
            fault = self.faults.get(key)
            if fault is None or fault.times <= 0:
                return None
            fault.times -= 1
            return fault

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which a command finds this store and its credentials."""
        return self.server.environment(self.port)

    def url(self, prefix: str) -> str:
        """The URL of a prefix in the bucket."""
        return f"{self.server.scheme}://{BUCKET}/{prefix}"

    def store(self) -> ObjectStore:
        """A client of the server itself, for a test to put and to read objects."""
        return self.server.client()

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Put each file below `folder` under its path there."""
        store = self.store()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                obstore.put(store, prefix + path.relative_to(folder).as_posix(), path.read_bytes())

    def delete_all(self, prefix: str = "") -> None:
        """Delete the objects below a prefix."""
        store = self.store()
        obstore.delete(store, [entry["path"] for chunk in obstore.list(store, prefix) for entry in chunk])

    def clear(self) -> None:
        """Empty the bucket and forget faults and counts."""
        self.delete_all()
        self.faults.clear()
        self.gets.clear()
        self.listings = 0
        self.delay_s = 0.0
        self.gets_of_token = float("inf")
        self.keys_per_page = 0
        self.listing_faults.clear()
        self.listed_as.clear()
        self.is_unsorted = False
        self.most_at_once = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).partition(f"/{BUCKET}/")[2]
        if not key:
            self._list()
            return
        fault = self.proxy.fault_of(key)
        if fault is None:
            self._pass_on()
        elif fault.status:
            self._answer_fault(fault)
        elif fault.stall_s:
            time.sleep(fault.stall_s)
            self.close_connection = True
        else:
            self._pass_on(is_cut=fault.is_cut)

    def _list(self) -> None:
        self.proxy.listings += 1
        fault = self.proxy.listing_faults.get(self.proxy.listings)
        if fault is not None:
            self._answer_fault(fault)
            return
        if self.proxy.keys_per_page:
            self.path += f"&max-keys={self.proxy.keys_per_page}"
        self._pass_on(change=self._changed)

    def _changed(self, listing: bytes) -> bytes:
        for key, other in self.proxy.listed_as.items():
            listing = listing.replace(f"<Key>{key}</Key>".encode(), f"<Key>{other}</Key>".encode())
        return _unsorted(listing) if self.proxy.is_unsorted else listing

    def do_PUT(self) -> None:
        self._pass_on()

    do_POST = do_DELETE = do_HEAD = do_PUT  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _pass_on(self, is_cut: bool = False, change: Callable[[bytes], bytes] = bytes) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.proxy.server.port, timeout=60)) as server:
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            content = change(answer.read())
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        self._answer(answer.status, kept, content, is_cut, answer.getheader("Content-Length"))

    def _answer_fault(self, fault: Fault) -> None:
        self._answer(fault.status, {}, f"<Error><Code>{fault.code or 'Fault'}</Code></Error>".encode())

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, is_cut: bool = False, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if is_cut else content)
        self.close_connection = is_cut


def _unsorted(listing: bytes) -> bytes:
    """Return a listing whose second half comes first."""
    entries = re.findall(rb"<Contents>.*?</Contents>", listing, re.DOTALL)
    middle = len(entries) // 2
    return listing.replace(b"".join(entries), b"".join(entries[middle:] + entries[:middle]))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed in the middle is what these tests are about."""


@contextlib.contextmanager
def moto_in_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A store of its own, until the block ends, which commands find by their environment."""
    with moto() as server, proxy_before(server) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


@contextlib.contextmanager
def proxy_before(server: StoreServer) -> Iterator[FaultProxy]:
    """A proxy before `server`, until the block ends."""
    proxy = FaultProxy(server)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as listener:
        proxy.port = listener.server_port
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield proxy
        listener.shutdown()
