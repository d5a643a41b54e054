"""Parts of the server -> one ASGI application: routes, security, errors in words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from jobs.serving.access_token import COOKIE, AccessToken
from jobs.serving.security import SecurityMiddleware, access_rules, refused

_SESSION_PATH = "/session"
_LARGEST_SESSION_BYTES = 4096
_SMALL_BODY_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class ServerPart:
    """One feature of the server: its routes, and which of its paths need no token because they tell nothing."""

    routes: Sequence[BaseRoute]
    public_paths: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """Where the server listens, under which further names it answers, and its token."""

    host: str
    further_names: Sequence[str]
    token: AccessToken | None


def create_app(parts: Sequence[ServerPart], access: ServerAccess) -> Starlette:
    """Return the application of `parts`, each of whose routes is behind the checks of `access`."""
    all_parts = [*parts, _session_part(access.token)]
    public_paths = [path for part in all_parts for path in part.public_paths]
    rules = access_rules(access.host, access.further_names, access.token, public_paths)
    return Starlette(
        routes=[route for part in all_parts for route in part.routes],
        middleware=[Middleware(SecurityMiddleware, rules=rules)],
        exception_handlers={HTTPException: _http_error, 500: _bug},
    )


async def small_body(request: Request, most_bytes: int) -> bytes:
    """Return the whole body of a request that is not photos.

    Raises:
        HTTPException: the body has more than `most_bytes`, or did not come within 20 s.
    """
    body = b""
    try:
        async with asyncio.timeout(_SMALL_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise HTTPException(413, f"at most {most_bytes} bytes are read here")
    except TimeoutError as error:
        raise HTTPException(408, "the request came too slowly") from error
    return body


def _session_part(token: AccessToken | None) -> ServerPart:
    """The exchange of the token for a cookie, which a browser then sends with its requests, also for images."""

    async def begin(request: Request) -> Response:
        body = await small_body(request, _LARGEST_SESSION_BYTES)
        if token is None:
            return Response(status_code=204)
        if not token.is_token(body.decode("utf-8", "replace").strip()):
            return refused(401, "that is not the token of this server")
        answer = Response(status_code=204)
        answer.set_cookie(COOKIE, token.cookie, httponly=True, samesite="strict", path="/")
        return answer

    return ServerPart([Route(_SESSION_PATH, begin, methods=["POST"])], [_SESSION_PATH])


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if error.status_code >= 400:
        # The body of a refused request may be unread.
        answer.headers["Connection"] = "close"
    return answer


async def _bug(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "this is a bug of label-serve; its log says more"}, 500, {"Connection": "close"})
