"""Scripts and style sheets that ship with the package, read once and served from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobs.serving.app import ServerPart

_KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
}


def shipped(package: str, name: str) -> bytes:
    """Return the content of a file that ships with `package`."""
    return resources.files(package).joinpath(*name.split("/")).read_bytes()


def static_part(contents: Mapping[str, bytes]) -> ServerPart:
    """Return a part that serves each content under its path; the ending of the path says which kind of file it is.

    A path that ends in a slash is a page. No path needs a token, so no content may hold anything of the user's.
    """
    return ServerPart([_route(path, content) for path, content in contents.items()], list(contents))


def _route(path: str, content: bytes) -> Route:
    kind = _KINDS[".html" if path.endswith("/") else path[path.rindex(".") :]]
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Type": kind}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return Route(path, serve, methods=["GET"])
