"""What stands before every route: Host, Origin and token are checked, and every answer gets security headers."""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.serving.access_token import COOKIE, AccessToken, is_loopback

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
# As ASGI has headers, so that no answer has to encode them again.
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
_CACHE_CONTROL = b"cache-control"


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Under which host names the server answers, and which paths need no token.

    `host_names` are lower-case names without a port. With `any_address` every IP address is a valid host, too: no page
    of another site can be loaded from an address, so DNS rebinding cannot use one.
    """

    host_names: frozenset[str]
    any_address: bool
    token: AccessToken | None
    public_paths: frozenset[str]


def access_rules(
    host: str, further_names: Sequence[str], token: AccessToken | None, public_paths: Iterable[str]
) -> AccessRules:
    """Return the rules of a server that listens at `host`, and that a proxy may offer under `further_names`."""
    names: set[str] = {*_LOOPBACK_NAMES, host.lower(), *(name.lower() for name in further_names)}
    if not is_loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return AccessRules(frozenset(names), not is_loopback(host), token, frozenset(public_paths))


class SecurityMiddleware:
    """Refuses requests that break `rules` with 400, 401 or 403 and a sentence, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *_RAW_HEADERS]
                if not any(name == _CACHE_CONTROL for name, _ in headers):
                    headers.append((_CACHE_CONTROL, b"no-store"))
                message["headers"] = headers
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await refusal(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not _is_known_host(hosts[0], self._rules):
            return refused(400, "this server does not go by that name: see --allow-host")
        if scope["method"] not in _SAFE_METHODS and _is_from_another_site(headers, hosts[0]):
            return refused(403, "a page of another site may send nothing here")
        if scope["path"] not in self._rules.public_paths and not _is_admitted(headers, self._rules.token):
            answer = refused(401, "this server asks for its token: send `Authorization: Bearer TOKEN`")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return None


def refused(status: int, sentence: str) -> JSONResponse:
    """Return an answer with an error in words; the connection ends, because the request's body may be unread."""
    return JSONResponse({"error": sentence}, status, {"Connection": "close"})


@functools.lru_cache(maxsize=256)
def _is_known_host(host: str, rules: AccessRules) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
        if name is None or "@" in host:
            return False
        return name in rules.host_names or (rules.any_address and bool(ipaddress.ip_address(name)))
    except ValueError:
        return False


def _is_from_another_site(headers: Headers, host: str) -> bool:
    """Tell whether a browser says that a page of another origin sends this; other programs say nothing."""
    origin = headers.get("origin")
    if origin is not None and _netloc(origin) != host.lower():
        return True
    return headers.get("sec-fetch-site", "none") not in _SAME_SITE


def _netloc(origin: str) -> str | None:
    """Return the host and port of an Origin, None where it has none ("null", or no URL)."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_admitted(headers: Headers, token: AccessToken | None) -> bool:
    if token is None or token.is_bearer(headers.get("authorization", "")):
        return True
    cookies: Collection[str] = [cookie_parser(header).get(COOKIE, "") for header in headers.getlist("cookie")]
    return any(token.is_cookie(cookie) for cookie in cookies)
