"""The URL of photos in an object store, as a user writes the URL; credentials are never part of one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.system.outside_text import terminal_text
from pipeline.errors import UsageError

_SCHEMES = {"s3": "s3", "gs": "gs", "az": "az"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A bucket (on Azure a container), and the prefix of keys in it: empty, or ending in a slash as a folder does."""

    scheme: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}"


Place = Path | StoreUrl


def parsed_place(text: str) -> Place:
    """Return the place that a user named: a path of this machine, or a URL of an object store.

    Raises:
        UsageError: the URL is of another kind, names no bucket, or holds what looks like credentials.
    """
    found = _URL.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, rest = found[1].lower(), found[2]
    if scheme not in _SCHEMES:
        raise UsageError(f"{terminal_text(scheme)}:// is no object store; s3://, gs:// and az:// are")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket or "?" in rest:
        # The text is not repeated here: an error message ends up in logs.
        raise UsageError(
            f"a URL of {scheme}:// has neither user nor query; credentials come from the environment, a web "
            "identity or the machine's role"
        )
    if not bucket:
        raise UsageError(f"{terminal_text(text)} names no bucket; write {scheme}://BUCKET/PREFIX/")
    return StoreUrl(scheme, bucket, f"{prefix}/" if prefix and prefix[-1] != "/" else prefix)
