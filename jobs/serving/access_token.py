"""The secret that a server for other computers asks for: as a bearer token, or as the cookie of a browser."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from pathlib import Path

from pipeline.errors import InputMissingError, UsageError

COOKIE = "label_serve"
_FEWEST_CHARACTERS = 16
_LARGEST_FILE_BYTES = 4096


class AccessToken:
    """Compares what a client sends with the token, in a time that does not depend on how much of it is right."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # The cookie is not the token: whoever reads it from a browser's profile cannot use it after a new token.
        self.cookie = hmac.digest(self._token, b"label-serve cookie", hashlib.sha256).hex()

    def is_bearer(self, authorization: str) -> bool:
        """Tell whether a header `Authorization` carries the token."""
        scheme, _, credentials = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.is_token(credentials.strip())

    def is_token(self, candidate: str) -> bool:
        """Tell whether `candidate` is the token."""
        return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self._token)

    def is_cookie(self, candidate: str) -> bool:
        """Tell whether `candidate` is the cookie that the token was exchanged for."""
        return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self.cookie.encode())


def is_loopback(host: str) -> bool:
    """Tell whether only programs of this computer can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open_door(host: str, token: AccessToken | None) -> None:
    """Raise UsageError where other computers could reach the server and nothing asks them for a secret."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: other computers can reach that address, so clients have to send a token: "
            "add --token-file FILE (`openssl rand -hex 16 > FILE` makes one)"
        )


def read_token(token: str | None, token_file: Path | None) -> AccessToken | None:
    """Return the token that the user gives, None where there is none.

    Raises:
        UsageError: the token is too short to be a secret, holds spaces, or is given twice.
        InputMissingError: the file cannot be read.
    """
    if token is not None and token_file is not None:
        raise UsageError("--token and --token-file: give one of the two")
    if token_file is not None:
        try:
            with token_file.open(encoding="utf-8") as stream:
                token = stream.read(_LARGEST_FILE_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputMissingError(f"the token file {token_file} cannot be read: {reason}") from error
    if token is None:
        return None
    if len(token) < _FEWEST_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"a token has at least {_FEWEST_CHARACTERS} letters, digits or signs, and no space; "
            "`openssl rand -hex 16` makes a good one"
        )
    return AccessToken(token)
