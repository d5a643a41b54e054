"""Clients that post photos to a server on this computer as fast as it answers; for benchmarks and load tests.

    python benchmarks/http_clients.py PORT CLIENTS REQUESTS PHOTO...

One thread serves all clients, and requests are made beforehand, so that the clients take little of the CPU that the
server needs. Prints JSON: seconds, requests, seconds of each request, and how many answers were wrong (not status
200, or, from label-serve, without the sha256 of the photo that was sent).
"""

from __future__ import annotations

import hashlib
import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BOUNDARY = "photos-of-a-benchmark"
_LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The bytes of a request, and what its answer has to hold."""

    content: bytes
    sha256: bytes


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    request: PreparedRequest
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: bytearray = field(default_factory=bytearray)
    began_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of clients saw: seconds from the first request to the last answer, and those of each request."""

    seconds: float
    latencies_s: list[float]
    wrong: int

    @property
    def requests_per_s(self) -> float:
        """Answers per second."""
        return len(self.latencies_s) / self.seconds


def prepared(port: int, photo: bytes) -> PreparedRequest:
    """A request that posts `photo`."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    body = head.encode() + photo + f"\r\n--{_BOUNDARY}--\r\n".encode()
    lines = (
        "POST /v1/label HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}",
        f"Content-Length: {len(body)}",
        "",
        "",
    )
    return PreparedRequest("\r\n".join(lines).encode() + body, hashlib.sha256(photo).hexdigest().encode())


def load(port: int, requests: Sequence[PreparedRequest], clients: int, count: int, checks_digest: bool = True) -> Load:
    """Let `clients` post `count` requests altogether, `requests` in turn, each client one at a time."""
    return _Clients(port, requests, count, checks_digest).run(clients)


class SingleClient:
    """One connection that is kept, as a program's or a browser's is."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, request: PreparedRequest) -> float:
        """Seconds from sending `request` to its whole answer."""
        began_s = time.perf_counter()
        self._connection.sendall(request.content)
        answer = bytearray()
        while not _is_complete(answer):
            piece = self._connection.recv(65536)
            assert piece, "the server closed the connection"
            answer += piece
        seconds = time.perf_counter() - began_s
        assert request.sha256 in answer
        return seconds


class _Clients:
    def __init__(self, port: int, requests: Sequence[PreparedRequest], count: int, checks_digest: bool) -> None:
        self._port, self._requests, self._count, self._checks_digest = port, requests, count, checks_digest
        self._selector = selectors.DefaultSelector()
        self._latencies_s: list[float] = []
        self._wrong = self._started = 0

    def run(self, clients: int) -> Load:
        began_s = time.perf_counter()
        for _ in range(min(clients, self._count)):
            self._start(_Client(_connect(self._port), self._requests[0]))
        while len(self._latencies_s) < self._count and time.perf_counter() - began_s < _LONGEST_S:
            for key, events in self._selector.select(1.0):
                self._go_on(key.data, events)
        seconds = time.perf_counter() - began_s
        for key in list(self._selector.get_map().values()):
            key.data.connection.close()
        return Load(seconds, self._latencies_s, self._wrong)

    def _start(self, client: _Client) -> None:
        client.request = self._requests[self._started % len(self._requests)]
        self._started += 1
        client.unsent, client.began_s = memoryview(client.request.content), time.perf_counter()
        client.answer.clear()
        _send(client)
        self._register(client, selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0))

    def _go_on(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            _send(client)
            if not client.unsent:
                self._register(client, selectors.EVENT_READ)
        if events & selectors.EVENT_READ:
            piece = client.connection.recv(65536)
            client.answer += piece
            if not piece or _is_complete(client.answer):
                self._finish(client, is_over=not piece)

    def _finish(self, client: _Client, is_over: bool) -> None:
        self._latencies_s.append(time.perf_counter() - client.began_s)
        has_digest = client.request.sha256 in client.answer or not self._checks_digest
        self._wrong += not (client.answer[9:12] == b"200" and has_digest)
        if is_over or b"onnection: close" in client.answer[:400]:
            # A server that ends each connection, as Flask's does, gets a new one.
            self._selector.unregister(client.connection)
            client.connection.close()
            client.connection = _connect(self._port)
        if self._started < self._count:
            self._start(client)

    def _register(self, client: _Client, events: int) -> None:
        try:
            self._selector.modify(client.connection, events, client)
        except KeyError:
            self._selector.register(client.connection, events, client)


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


def _send(client: _Client) -> None:
    try:
        while client.unsent:
            client.unsent = client.unsent[client.connection.send(client.unsent) :]
    except BlockingIOError:
        return


def _is_complete(answer: bytearray) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(answer[:end]).lower()
    begin = head.find(b"content-length:")
    return begin >= 0 and len(answer) - end - 4 >= int(head[begin + 15 :].split(b"\r\n")[0])


def main() -> None:
    """Run from the command line."""
    port, clients, count, *photos = sys.argv[1:]
    requests = [prepared(int(port), Path(photo).read_bytes()) for photo in photos]
    found = load(int(port), requests, int(clients), int(count))
    print(json.dumps({"seconds": found.seconds, "latencies_s": found.latencies_s, "wrong": found.wrong}))


if __name__ == "__main__":
    main()
