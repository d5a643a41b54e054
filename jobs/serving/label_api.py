"""`POST /v1/label`: photos in, rows out, in the order of the photos; and `GET /v1/models`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.serving.app import ServerPart
from jobs.serving.offered_models import OfferedModels
from jobs.serving.read_uploads import LabelRequestBody, RefusedRequestError, read_uploads
from jobs.serving.request_metrics import RequestMetrics
from pipeline.records import Row
from pipeline.serving.live_labeller import LiveLabeller
from pipeline.serving.task_queue import Answer, LabelTask, Unlabelled
from pipeline.tables.cells import cells_of, column_names

_RETRY_AFTER_S = 1
# A photo has a time limit of its own, and a bounded number waits; so this ends requests that something else holds up.
_ANSWER_TIMEOUT_S = 300.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_COLUMNS = ("mtime", "labelled_at")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may hold, and how many photos and bytes may wait for their labels altogether."""

    files: int
    body_bytes: int
    waiting_photos: int
    waiting_bytes: int


class LabelApi:
    """Takes photos while there is room for them, and waits for their rows; a client that leaves is forgotten."""

    def __init__(self, models: OfferedModels, limits: RequestLimits, top_k: int, metrics: RequestMetrics) -> None:
        self._models = models
        self._limits = limits
        self._columns = column_names(top_k)
        self._top_k = top_k
        self._metrics = metrics
        self._futures: dict[LabelTask, asyncio.Future[Row | Unlabelled]] = {}
        # Photos of clients that have left, until a worker comes to them: they take memory as long.
        self._forgotten: set[LabelTask] = set()
        self._reading_bytes = 0

    def part(self) -> ServerPart:
        """Return the routes."""
        return ServerPart(
            [Route("/v1/label", self.label, methods=["POST"]), Route("/v1/models", self.models, methods=["GET"])]
        )

    @property
    def waiting_photos(self) -> int:
        """How many photos wait for their rows or are being labelled."""
        return len(self._futures)

    def take_answers(self, answers: Sequence[Answer]) -> None:
        """Hand answers to the requests that wait for them; to be called in the thread of the event loop."""
        for task, answer in answers:
            future = self._futures.pop(task, None)
            if future is not None and not future.done():
                future.set_result(answer)

    async def models(self, _request: Request) -> Response:
        """Answer with the models that may be chosen."""
        loaded = self._models.loaded
        return JSONResponse(
            {
                "models": [
                    {
                        "name": name,
                        "is_default": name == self._models.default,
                        "is_loaded": name in loaded and loaded[name].is_ready,
                    }
                    for name in self._models.names
                ]
            }
        )

    async def label(self, request: Request) -> Response:
        """Answer with one row for each photo of the request."""
        began_s = time.monotonic()
        try:
            answer = await self._label(request)
        except RefusedRequestError as error:
            # The rest of the body may be unread.
            answer = JSONResponse({"error": error.sentence}, error.status, {"Connection": "close"})
            if error.status == 503:
                answer.headers["Retry-After"] = str(_RETRY_AFTER_S)
        except ClientDisconnect:
            answer = Response(status_code=499)
        self._metrics.note_request(answer.status_code, time.monotonic() - began_s)
        return answer

    async def _label(self, request: Request) -> Response:
        self._refuse_if_full(self._declared_bytes(request))
        body = await self._read(request)
        try:
            labeller = self._labeller_of(body)
            tasks = [LabelTask(upload) for upload in body.uploads]
            loop = asyncio.get_running_loop()
            futures = [loop.create_future() for _ in tasks]
            self._futures.update(zip(tasks, futures, strict=True))
        except BaseException:
            body.close()
            raise
        # From here on the labeller closes the uploads.
        labeller.submit(tasks)
        try:
            await _answered(request, futures)
        finally:
            for task in tasks:
                if self._futures.get(task) is not None:
                    task.is_forgotten = True
                    del self._futures[task]
                    self._forgotten.add(task)
        return self._answer([future.result() for future in futures])

    def _refuse_if_full(self, further_bytes: int) -> None:
        self._forgotten = {task for task in self._forgotten if task.upload.is_open}
        held = [*self._futures, *self._forgotten]
        held_bytes = sum(task.upload.size_bytes for task in held) + self._reading_bytes
        if len(held) >= self._limits.waiting_photos or held_bytes + further_bytes > self._limits.waiting_bytes:
            raise RefusedRequestError(503, "too many photos are waiting: try again in a moment")

    def _declared_bytes(self, request: Request) -> int:
        """Return how many bytes the body will have at most, so that all bodies together stay within the bound."""
        largest = self._limits.body_bytes
        return min(int(request.headers.get("content-length", largest)), largest)

    async def _read(self, request: Request) -> LabelRequestBody:
        limits = self._limits
        reserved = self._declared_bytes(request)
        self._reading_bytes += reserved
        try:
            return await read_uploads(request.headers, request.stream(), limits.files, limits.body_bytes)
        finally:
            self._reading_bytes -= reserved

    def _labeller_of(self, body: LabelRequestBody) -> LiveLabeller:
        name = body.model or None
        if not self._models.is_offered(name):
            raise RefusedRequestError(404, f"no model {name} here: /v1/models lists those that are")
        labeller = self._models.find(name)
        if labeller is None:
            raise RefusedRequestError(503, "as many models are loaded as may be: choose one of those, see /v1/models")
        if (problem := labeller.problem) is not None:
            raise RefusedRequestError(503, f"photos cannot be labelled at the moment: {problem}")
        return labeller

    def _answer(self, answers: Sequence[Row | Unlabelled]) -> Response:
        failed = next((answer.reason for answer in answers if isinstance(answer, Unlabelled)), None)
        if failed is not None:
            raise RefusedRequestError(503, f"the photos could not be labelled: {failed}")
        rows = [answer for answer in answers if isinstance(answer, Row)]
        self._metrics.note_rows(rows)
        return JSONResponse({"rows": [self._as_json(row) for row in rows]})

    def _as_json(self, row: Row) -> dict[str, object]:
        cells = dict(zip(self._columns, cells_of(row, self._top_k), strict=True))
        for column in _TIME_COLUMNS:
            cells[column] = _time_text(cells[column])
        return cells


def _time_text(microseconds: object) -> str:
    assert isinstance(microseconds, int)
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def _answered(request: Request, futures: Sequence[asyncio.Future[Row | Unlabelled]]) -> None:
    """Return when all are answered. Raises ClientDisconnect where the client leaves first."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _ANSWER_TIMEOUT_S
    left = loop.create_task(_left(request))
    try:
        while pending := [future for future in futures if not future.done()]:
            timeout_s = until_s - loop.time()
            awaited: list[asyncio.Future[Any]] = [*pending, left]
            done, _ = await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if left in done:
                raise ClientDisconnect
            if not done:
                raise RefusedRequestError(503, "the photos took too long")
    finally:
        left.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
