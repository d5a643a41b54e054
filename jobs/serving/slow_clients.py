"""uvicorn's HTTP protocol with time limits of its own: a client that sends no whole request head is disconnected."""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
# Beyond these, a connection is closed as soon as it is made. uvicorn's own limit answers 503 below.
MOST_CONNECTIONS = 2048


class ImpatientHttpProtocol(HttpToolsProtocol):
    """Closes a connection on which no head of a request is complete within 10 s of its start or of its first byte.

    uvicorn itself waits for ever for the first request of a connection, so idle connections would use up the server's.
    The time for a body is limited where the body is read, that between two requests by `timeout_keep_alive`.
    """

    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.abort()
