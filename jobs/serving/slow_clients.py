"""uvicorn's HTTP protocol with limits for clients that send or read nothing, or headers without an end."""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
# How long a client may read nothing of an answer that does not fit into the buffers.
READ_TIMEOUT_S = 60.0
MOST_CONNECTIONS = 1000
# Of a head, and of what chunks and trailers add to a body; a chunk of one byte comes with five others.
LARGEST_HEAD_BYTES = 64 << 10
_MOST_PER_BODY_BYTE = 8


class ImpatientHttpProtocol(HttpToolsProtocol):
    """Closes a connection on which no head of a request is complete within 10 s of its start or of its first byte.

    Beyond 1,000 connections the one that has waited longest for a head makes room for the new one. uvicorn itself
    waits for ever for the first request of a connection, so idle connections would use up the server's. The time for a
    body is limited where the body is read, that between two requests by `timeout_keep_alive`. uvicorn also keeps
    headers of any length in memory: here a connection ends with more than 64 KiB of them.
    """

    _received_bytes = 0
    _body_bytes = 0
    _read_timer: TimerHandle | None = None
    # In the order in which they began to wait.
    _without_head: ClassVar[dict[ImpatientHttpProtocol, TimerHandle]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > MOST_CONNECTIONS:
            next(iter(self._without_head)).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_read_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        super().data_received(data)
        if self._received_bytes > LARGEST_HEAD_BYTES + _MOST_PER_BODY_BYTE * self._body_bytes:
            self.give_up()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._received_bytes = self._body_bytes = 0
        if self not in self._without_head:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_TIMEOUT_S, self.give_up)

    def resume_writing(self) -> None:
        self._stop_read_timer()
        super().resume_writing()

    def give_up(self) -> None:
        """Close the connection."""
        self._stop_waiting()
        self.transport.abort()

    def _await_head(self) -> None:
        self._without_head[self] = self.loop.call_later(HEAD_TIMEOUT_S, self.give_up)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _stop_waiting(self) -> None:
        timer = self._without_head.pop(self, None)
        if timer is not None:
            timer.cancel()
