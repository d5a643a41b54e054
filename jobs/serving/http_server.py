"""An application on a socket: HTTP by uvicorn, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.cli.standard_streams import print_text
from jobs.serving.serve_options import ServeOptions
from models.system.outside_text import terminal_text
from pipeline.errors import OutputError
from pipeline.monitoring.sd_notify import SdNotify

if TYPE_CHECKING:
    import uvicorn

_MOST_DESCRIPTORS = 8192
_KEEP_ALIVE_S = 15
_STOP_PATIENCE_S = 60
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class HttpHooks:
    """The address that is printed, what begins in the event loop, and what SIGHUP does there."""

    host: str
    first_page: str
    begin: Callable[[], None]
    reload: Callable[[], None]


@contextlib.contextmanager
def bound_socket(options: ServeOptions) -> Iterator[socket.socket]:
    """Bind the address, so that a wrong one fails before the model is loaded; connections are taken later."""
    try:
        family, *_, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY on sockets of this protocol number alone. Without it, the second answer on a
        # connection waits 40 ms for the client's delayed acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"--host {terminal_text(options.host)}: no such address: {reason}") from error
    with contextlib.closing(listener):
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise OutputError(f"port {options.port} of {options.host} cannot be used: {error.strerror}") from error
        yield listener


def run_http(app: object, listener: socket.socket, hooks: HttpHooks) -> None:
    """Serve `app` at `listener` until SIGTERM or SIGINT, which finish the requests at work.

    Raises:
        OutputError: the address cannot be printed.
    """
    _allow_descriptors()
    server = _server(app)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        hooks.begin()
        notify = SdNotify()

        def stop() -> None:
            notify.send(STOPPING=1)
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, hooks.reload)
        watchdog = loop.create_task(_report(server, notify, _url(hooks.host, listener) + hooks.first_page))
        # Where the address cannot be printed, nobody would find the server.
        watchdog.add_done_callback(lambda _: stop())
        await server.serve(sockets=[listener])
        watchdog.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watchdog

    asyncio.run(run())


async def _report(server: uvicorn.Server, notify: SdNotify, url: str) -> None:
    """Print the address once the server listens, and tell the service manager every few seconds that it is alive."""
    while not server.started:
        await asyncio.sleep(0.01)
    print_text(url)
    notify.send(READY=1, STATUS=url)
    while True:
        await asyncio.sleep(5.0)
        notify.send(WATCHDOG=1)


def _server(app: object) -> uvicorn.Server:
    import uvicorn

    from jobs.serving.slow_clients import MOST_CONNECTIONS, ImpatientHttpProtocol

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals to `run_http`: uvicorn would end the process by the signal, with another exit code."""
            yield

    # What these log is about broken requests, which anyone may send at any rate.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI application
        http=ImpatientHttpProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        # Of requests at work, since further idle connections make room: uvicorn answers 503 from here on.
        limit_concurrency=MOST_CONNECTIONS + 1,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_PATIENCE_S,
    )
    return Server(config)


def _allow_descriptors() -> None:
    """Raise the limit of open descriptors: each connection has one, and each photo that waits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_MOST_DESCRIPTORS, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
