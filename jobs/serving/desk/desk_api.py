"""The requests of the desk's page: what is next, the picture of a photo, and what a person says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.serving.app import ServerPart, small_body
from jobs.serving.desk.answers import photos_json, progress_json, review_json
from jobs.serving.desk.desk_photos import Order
from jobs.serving.desk.photo_previews import NoPicture, PhotoPreviews
from jobs.serving.desk.table_readings import Reading, TableReadings
from models.system.outside_text import is_sha256
from pipeline.errors import LabelDirError, UsageError
from pipeline.reviews.decisions import Decision, ReviewKind

_LARGEST_BODY_BYTES = 1 << 20
_MOST_PHOTOS = 200
_MOST_DECISIONS = 1000
_STATES = ("open", "reviewed", "all")
# A picture is named by the bytes that it shows, so a browser may keep it for the next look.
_PICTURE_HEADERS = {"Cache-Control": "private, max-age=600"}


@dataclass(frozen=True, slots=True)
class DeskFacts:
    """What the page shows from its beginning: the table's name, labels of the model, who reviews by default."""

    table: str
    model_labels: Sequence[str]
    reviewer: str
    has_older_table: bool


class DeskApi:
    """Answers the requests of the desk's page about a table."""

    def __init__(self, facts: DeskFacts, readings: TableReadings, previews: PhotoPreviews) -> None:
        self._facts = facts
        self._readings = readings
        self._previews = previews

    def part(self) -> ServerPart:
        """Return the routes below `/desk/api/`, all of which need the server's token."""
        return ServerPart(
            [
                Route("/desk/api/start", self._start, methods=["GET"]),
                Route("/desk/api/queue", self._queue, methods=["GET"]),
                Route("/desk/api/photos/{sha256}", self._photo, methods=["GET"]),
                Route("/desk/api/pictures/{sha256}/{kind}", self._picture, methods=["GET"]),
                Route("/desk/api/reviews", self._review, methods=["POST"]),
            ]
        )

    async def _start(self, _request: Request) -> Response:
        await _in_thread(self._readings.read_again)
        reading, is_outdated = await self._now()
        known = dict.fromkeys([*reading.labels, *self._facts.model_labels, *sorted(reading.states.labels_said())])
        return JSONResponse(
            {
                "table": self._facts.table,
                "reading": reading.name,
                "is_outdated": is_outdated,
                "labels": list(known),
                "table_labels": reading.photos.first_labels(),
                "reviewer": self._facts.reviewer,
                "has_older_table": self._facts.has_older_table,
                "progress": progress_json(reading),
            }
        )

    async def _queue(self, request: Request) -> Response:
        query = request.query_params
        order, state = query.get("order", Order.UNCERTAIN), query.get("state", "open")
        if order not in list(Order) or state not in _STATES:
            raise HTTPException(400, "there is no such order or state")
        after, limit = _number(query.get("after", "-1")), _number(query.get("limit", "20"))
        reading, is_outdated = await self._now(query.get("reading"))
        positions = reading.photos.ordered(Order(order))
        wanted = np.arange(max(after, -1) + 1, len(positions))
        if label := query.get("label"):
            wanted = wanted[reading.photos.has_first_label(label)[positions[wanted]]]
        if state != "all":
            wanted = wanted[reading.states.is_open(positions[wanted]) == (state == "open")]
        ranks = wanted[: min(max(limit, 1), _MOST_PHOTOS)]
        photos = photos_json(reading, positions[ranks].tolist())
        for photo, rank in zip(photos, ranks.tolist(), strict=True):
            photo["rank"] = rank
        progress = progress_json(reading)
        return JSONResponse({"photos": photos, "left": len(wanted), "progress": progress, "is_outdated": is_outdated})

    async def _photo(self, request: Request) -> Response:
        reading, _ = await self._now()
        return JSONResponse(photos_json(reading, [_position(reading, request)])[0])

    async def _picture(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in ("whole", "square"):
            raise HTTPException(404, "a picture is whole or square")
        reading = self._readings.current
        name = reading.photos.name_at(_position(reading, request))
        found = await _in_thread(self._previews.picture, name, request.path_params["sha256"], kind == "whole")
        if isinstance(found, NoPicture):
            raise HTTPException(404, found.reason)
        return Response(found, media_type="image/webp", headers=_PICTURE_HEADERS)

    async def _review(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "reviews are sent as application/json")
        document = _document(await small_body(request, _LARGEST_BODY_BYTES))
        reading, is_outdated = await self._now(document.get("reading"))
        request_id, reviewer, decisions = self._parsed(document, reading)
        recorded = await _in_thread(reading.states.record, request_id, reviewer, decisions)
        if recorded.conflicts:
            conflicts = [review_json(state) for state in recorded.conflicts]
            return JSONResponse({"error": "someone else has reviewed this meanwhile", "conflicts": conflicts}, 409)
        states = [review_json(state) for state in recorded.states]
        progress = progress_json(reading)
        return JSONResponse({"states": states, "progress": progress, "is_outdated": is_outdated})

    async def _now(self, expected: object = None) -> tuple[Reading, bool]:
        """Return the reading of the table, with all reviews of now, and whether the table was written since.

        Raises:
            HTTPException: the client means the `expected` reading, and another has taken its place.
        """
        reading = self._readings.current
        if expected is not None and expected != reading.name:
            raise HTTPException(409, "the table was written by a newer run; load the page again")

        def look() -> bool:
            reading.states.refresh()
            return self._readings.is_outdated()

        return reading, await _in_thread(look)

    def _parsed(self, document: dict[str, Any], reading: Reading) -> tuple[str, str, list[Decision]]:
        """Return the id, the reviewer and the decisions of a request, each with the label that the table shows.

        Raises:
            HTTPException: the request is none, or is about a photo that is not in the table.
        """
        try:
            request_id, reviewer = document["request_id"], document.get("reviewer") or self._facts.reviewer
            entries = document["decisions"]
            if not isinstance(request_id, str) or not isinstance(reviewer, str) or len(entries) > _MOST_DECISIONS:
                raise TypeError
            return request_id, reviewer, [_decision(reading, entry) for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HTTPException(400, "this is no review") from error


def _document(body: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises HTTPException where the body is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "this is no review") from error
    if not isinstance(document, dict):
        raise HTTPException(400, "this is no review")
    return document


def _decision(reading: Reading, entry: dict[str, Any]) -> Decision:
    sha256, label, last_id = entry["sha256"], entry.get("label"), entry["last_id"]
    kind = ReviewKind(entry["kind"])
    if not isinstance(sha256, str) or not isinstance(last_id, int) or not isinstance(label, str | None):
        raise TypeError
    position = reading.photos.position_of(sha256)
    if position is None:
        raise HTTPException(404, "there is no such photo in the table")
    return Decision(sha256, kind, reading.photos.label_at(position), label, last_id)


def _position(reading: Reading, request: Request) -> int:
    sha256 = str(request.path_params["sha256"])
    position = reading.photos.position_of(sha256) if is_sha256(sha256) else None
    if position is None:
        raise HTTPException(404, "there is no such photo in the table")
    return position


def _number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise HTTPException(400, "after and limit are numbers") from None
    return max(-1, min(number, 1 << 40))


async def _in_thread(function: Any, *arguments: object) -> Any:
    """Call what waits for the disk or for another process; its error becomes an answer in words."""
    try:
        return await asyncio.to_thread(function, *arguments)
    except UsageError as error:
        raise HTTPException(400, str(error)) from error
    except (LabelDirError, OSError) as error:
        raise HTTPException(503, str(error)) from error
