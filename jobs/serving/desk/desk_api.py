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
from jobs.serving.desk.desk_photos import DeskPhotos, Order
from jobs.serving.desk.photo_previews import NoPicture, PhotoPreviews
from jobs.serving.desk.review_states import ReviewStates
from models.system.outside_text import is_sha256
from pipeline.errors import LabelDirError, UsageError
from pipeline.reviews.review_store import Decision, PhotoReview, ReviewKind
from pipeline.tables.arrow import pa

_LARGEST_BODY_BYTES = 1 << 20
_MOST_PHOTOS = 200
_MOST_DECISIONS = 1000
_STATES = ("open", "reviewed", "all")
# A picture is named by the bytes that it shows, so a browser may keep it for the next look.
_PICTURE_HEADERS = {"Cache-Control": "private, max-age=600"}


@dataclass(frozen=True, slots=True)
class DeskFacts:
    """What the page shows from its beginning: the table's name, labels to choose from, who reviews by default."""

    table: str
    labels: Sequence[str]
    reviewer: str
    has_older_table: bool


class DeskApi:
    """Answers the requests of the desk's page about `photos`."""

    def __init__(self, facts: DeskFacts, photos: DeskPhotos, states: ReviewStates, previews: PhotoPreviews) -> None:
        self._facts = facts
        self._photos = photos
        self._states = states
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
        await _in_thread(self._states.refresh)
        known = dict.fromkeys([*self._facts.labels, *sorted(self._states.labels_said())])
        return JSONResponse(
            {
                "table": self._facts.table,
                "labels": list(known),
                "table_labels": self._photos.first_labels(),
                "reviewer": self._facts.reviewer,
                "has_older_table": self._facts.has_older_table,
                "progress": self._progress(),
            }
        )

    async def _queue(self, request: Request) -> Response:
        query = request.query_params
        order, state = query.get("order", Order.UNCERTAIN), query.get("state", "open")
        if order not in list(Order) or state not in _STATES:
            raise HTTPException(400, "there is no such order or state")
        after, limit = _number(query.get("after", "-1")), _number(query.get("limit", "20"))
        await _in_thread(self._states.refresh)
        positions = self._photos.ordered(Order(order))
        wanted = np.arange(max(after, -1) + 1, len(positions))
        if label := query.get("label"):
            wanted = wanted[self._photos.has_first_label(label)[positions[wanted]]]
        if state != "all":
            wanted = wanted[self._states.is_open(positions[wanted]) == (state == "open")]
        ranks = wanted[: min(max(limit, 1), _MOST_PHOTOS)]
        photos = self._told(positions[ranks].tolist())
        for photo, rank in zip(photos, ranks.tolist(), strict=True):
            photo["rank"] = rank
        return JSONResponse({"photos": photos, "left": len(wanted), "progress": self._progress()})

    async def _photo(self, request: Request) -> Response:
        position = self._position(request)
        await _in_thread(self._states.refresh)
        return JSONResponse(self._told([position])[0])

    async def _picture(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in ("whole", "square"):
            raise HTTPException(404, "a picture is whole or square")
        found = await _in_thread(self._previews.picture, self._position(request), kind == "whole")
        if isinstance(found, NoPicture):
            raise HTTPException(404, found.reason)
        return Response(found, media_type="image/webp", headers=_PICTURE_HEADERS)

    async def _review(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "reviews are sent as application/json")
        request_id, reviewer, decisions = self._parsed(await small_body(request, _LARGEST_BODY_BYTES))
        recorded = await _in_thread(self._states.record, request_id, reviewer, decisions)
        if recorded.conflicts:
            conflicts = [_review_of(state) for state in recorded.conflicts]
            return JSONResponse({"error": "someone else has reviewed this meanwhile", "conflicts": conflicts}, 409)
        return JSONResponse({"states": [_review_of(state) for state in recorded.states], "progress": self._progress()})

    def _parsed(self, body: bytes) -> tuple[str, str, list[Decision]]:
        """Return the id, the reviewer and the decisions of a request, each with the label that the table shows.

        Raises:
            HTTPException: the request is none, or is about a photo that is not in the table.
        """
        try:
            document = json.loads(body)
            request_id, reviewer = document["request_id"], document.get("reviewer") or self._facts.reviewer
            entries = document["decisions"]
            if not isinstance(request_id, str) or not isinstance(reviewer, str) or len(entries) > _MOST_DECISIONS:
                raise TypeError
            return request_id, reviewer, [self._decision(entry) for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HTTPException(400, "this is no review") from error

    def _decision(self, entry: dict[str, Any]) -> Decision:
        sha256, label, last_id = entry["sha256"], entry.get("label"), entry["last_id"]
        kind = ReviewKind(entry["kind"])
        if not isinstance(sha256, str) or not isinstance(last_id, int) or not isinstance(label, str | None):
            raise TypeError
        position = self._photos.position_of(sha256)
        if position is None:
            raise HTTPException(404, "there is no such photo in the table")
        return Decision(sha256, kind, self._photos.label_at(position), label, last_id)

    def _position(self, request: Request) -> int:
        sha256 = str(request.path_params["sha256"])
        position = self._photos.position_of(sha256) if is_sha256(sha256) else None
        if position is None:
            raise HTTPException(404, "there is no such photo in the table")
        return position

    def _told(self, positions: list[int]) -> list[dict[str, Any]]:
        """Return what the page shows of photos."""
        numbers = pa.array(positions, pa.int64())
        rows = self._photos.rows.take(numbers).to_pylist()
        old_labels = self._photos.old_labels.take(numbers).to_pylist()
        ranks = range(1, self._photos.top_k + 1)
        return [
            {
                "sha256": row["sha256"],
                "name": row["file_name"],
                "width": row["width"],
                "height": row["height"],
                "is_unsure": row["status"] == "unsure",
                "labels": [
                    [row[f"label_{k}"], row[f"prob_{k}"] or 0.0] for k in ranks if row[f"label_{k}"] is not None
                ],
                "old_label": old_label,
                "review": _review_of(self._states.of(row["sha256"])),
            }
            for row, old_label in zip(rows, old_labels, strict=True)
        ]

    def _progress(self) -> dict[str, Any]:
        progress = self._states.progress()
        estimate = progress.accuracy
        return {
            "photos": progress.photos,
            "reviewed": progress.reviewed,
            "sample": estimate.sample,
            "right": estimate.right,
            "unknown": estimate.unknown,
            "low": estimate.low,
            "high": estimate.high,
        }


def _review_of(state: PhotoReview) -> dict[str, Any]:
    return {
        "sha256": state.sha256,
        "last_id": state.last_id,
        "kind": state.kind,
        "label": state.label,
        "reviewer": state.reviewer,
        "reviewed_at_us": state.reviewed_at_us,
    }


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
