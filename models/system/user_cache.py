"""The folder in which this user keeps what can be made again: built models, thumbnails, measurements."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from models.errors import UsageError


def user_cache() -> Path:
    """The folder: below $XDG_CACHE_HOME, or where this system keeps caches.

    Raises UsageError for a user without a home folder.
    """
    try:
        folder = platformdirs.user_cache_path("label-dir")
    except (RuntimeError, KeyError):
        folder = Path()
    # Without a home folder the path begins with "~", and a folder of that name would be made here.
    if not folder.is_absolute():
        raise UsageError("there is no folder for caches, because this user has no home: set HOME or XDG_CACHE_HOME")
    return folder
