"""The options of `label-serve` -> a running server: checks, model, parts, socket, signals, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.options import LabellingOptions
from jobs.cli.standard_streams import print_text
from jobs.labelling.label_folder import artifact_of, plan_of
from jobs.serving.access_token import AccessToken, read_token, refuse_open_door
from jobs.serving.serve_options import ServeOptions
from models.spec import DEFAULT_MODEL
from pipeline.errors import ExitCode, OutputError, UsageError
from pipeline.labeller import Labeller
from pipeline.monitoring.sd_notify import SdNotify

if TYPE_CHECKING:
    import uvicorn

    from jobs.serving.app import ServerPart
    from jobs.serving.offered_models import OfferedModels
    from pipeline.serving.task_queue import Answer

logger = logging.getLogger(__name__)

# Photos and bodies being read may hold this many of the largest requests altogether.
_LARGEST_REQUESTS_WAITING = 8
_MOST_DESCRIPTORS = 8192
_KEEP_ALIVE_S = 15
_STOP_PATIENCE_S = 60
_BACKLOG = 512
_EXTRA = ("starlette", "uvicorn", "httptools", "python_multipart")


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What to serve: the options, the names of `-m` in their order, and the page whose address is printed."""

    options: ServeOptions
    labelling: LabellingOptions
    models: tuple[str, ...]
    quiet: bool = False
    first_page: str = ""


def serve(request: ServeRequest, further_parts: Callable[[], Sequence[ServerPart]] = tuple) -> int:
    """Serve until SIGTERM or SIGINT, which finish the requests at work; return the exit code.

    `further_parts` is called once the default model is loaded.

    Raises:
        UsageError: an address of other computers without a token, or options that contradict each other.
        InputMissingError: the token file cannot be read.
        OutputError: the address cannot be bound.
        LabelDirError: the default model cannot be loaded.
    """
    _refuse_missing_extra()
    token = read_token(request.options.token, request.options.token_file)
    refuse_open_door(request.options.host, token)
    with bound_socket(request.options) as listener, _Answers() as answers:
        models = _offered_models(request, answers)
        # Before other imports and threads: the fork server is a copy of this process, which has one thread so far.
        models.load_default()
        try:
            _run(request, token, listener, models, answers, further_parts())
        finally:
            models.close()
    return ExitCode.OK


def _refuse_missing_extra() -> None:
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"label-serve needs the extra `serve`, as in pip install 'label-dir[serve]' ({missing[0]})")


class _Answers:
    """Carries answers from labelling threads into the event loop, once there is one."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._take: Callable[[Sequence[Answer]], None] = lambda answers: None

    def __enter__(self) -> _Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop = None

    def connect(self, loop: asyncio.AbstractEventLoop, take: Callable[[Sequence[Answer]], None]) -> None:
        """From now on call `take` in the thread of `loop`."""
        self._loop, self._take = loop, take

    def deliver(self, answers: Sequence[Answer]) -> None:
        """Hand `answers` over, from any thread; without a loop nobody waits for them."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take, answers)


def _offered_models(request: ServeRequest, answers: _Answers) -> OfferedModels:
    from jobs.serving.offered_models import OfferedModels

    named = {(Path(model).stem if model.endswith(".onnx") else model): model for model in request.models}
    names = list(named) or [DEFAULT_MODEL]

    def start(name: str) -> Labeller:
        # Uploads are opened through links in /proc that only this program makes.
        options = dataclasses.replace(
            request.labelling,
            model=named.get(name, name),
            follow_links=True,
            max_bytes=request.options.max_body,
        )
        artifact = artifact_of(options, request.quiet)
        plan = plan_of(options, artifact)
        # Photos wait here, and not in the pipe of a decode worker, so that those that come together share a batch.
        plan = dataclasses.replace(plan, loader=dataclasses.replace(plan.loader, prefetch=1))
        labeller = Labeller(artifact, plan).__enter__()
        try:
            labeller.warm_up()
        except BaseException:
            labeller.close()
            raise
        return labeller

    return OfferedModels(names[0], names[1:] if named else None, start, answers.deliver)


@contextlib.contextmanager
def bound_socket(options: ServeOptions) -> Iterator[socket.socket]:
    """Bind the address, so that a wrong one fails before the model is loaded; connections are taken later."""
    try:
        family, *_, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY on sockets of this protocol number alone. Without it, the second answer on a
        # connection waits 40 ms for the client's delayed acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise OutputError(f"--host {options.host}: no such address: {error.strerror or error}") from error
    with contextlib.closing(listener):
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise OutputError(f"port {options.port} of {options.host} cannot be used: {error.strerror}") from error
        yield listener


def _run(
    request: ServeRequest,
    token: AccessToken | None,
    listener: socket.socket,
    models: OfferedModels,
    answers: _Answers,
    further_parts: Sequence[ServerPart],
) -> None:
    from jobs.serving.app import ServerAccess, create_app
    from jobs.serving.label_api import LabelApi, RequestLimits
    from jobs.serving.label_page import page_part
    from jobs.serving.openapi import openapi_part
    from jobs.serving.request_metrics import RequestMetrics, health_part

    options = request.options
    _allow_descriptors()
    metrics = RequestMetrics()
    top_k = request.labelling.topk
    waiting_bytes = options.max_body * _LARGEST_REQUESTS_WAITING
    limits = RequestLimits(options.max_files, options.max_body, options.max_waiting, waiting_bytes)
    api = LabelApi(models, limits, top_k, metrics)
    parts = [
        api.part(),
        openapi_part(top_k, options.max_files),
        health_part(models, metrics, lambda: api.waiting_photos),
        page_part(limits),
        *further_parts,
    ]
    app = create_app(parts, ServerAccess(options.host, options.allow_host, token))
    server = _server(app)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        answers.connect(loop, api.take_answers)
        models.start()
        notify = SdNotify()

        def stop() -> None:
            notify.send(STOPPING=1)
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, models.request_reload)
        watchdog = loop.create_task(_report(server, notify, _url(options.host, listener) + request.first_page))
        await server.serve(sockets=[listener])
        watchdog.cancel()

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
            """Leave signals to `_run`: uvicorn would end the process by the signal, with another exit code."""
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
