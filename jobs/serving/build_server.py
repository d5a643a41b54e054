"""The options of `label-serve` -> a running server: checks, model and parts, served until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.options import LabellingOptions
from jobs.labelling.label_folder import artifact_of, plan_of
from jobs.serving.access_token import AccessToken, read_token, refuse_open_door
from jobs.serving.http_server import HttpHooks, bound_socket, run_http
from jobs.serving.serve_options import ServeOptions
from models.spec import DEFAULT_MODEL
from pipeline.errors import ExitCode, UsageError
from pipeline.labeller import Labeller

if TYPE_CHECKING:
    from jobs.serving.app import ServerPart
    from jobs.serving.offered_models import OfferedModels
    from pipeline.serving.task_queue import Answer

logger = logging.getLogger(__name__)

# Photos and bodies being read may hold this many of the largest requests altogether.
_LARGEST_REQUESTS_WAITING = 8
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

    def begin() -> None:
        answers.connect(asyncio.get_running_loop(), api.take_answers)
        models.start()

    run_http(app, listener, HttpHooks(options.host, request.first_page, begin, models.request_reload))
