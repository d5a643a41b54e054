"""Pictures of the table's photos for a browser: each file is read and compared with its row before it is shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.decoding.thumbnail import (
    THUMBNAIL_TIMEOUT_S,
    PhotoState,
    ThumbnailOrder,
    make_thumbnail,
    read_thumbnail,
)
from pipeline.sources.file_names import file_system_name
from pipeline.system.process_calls import ProcessCalls

# A photo to look at, and one among many.
WHOLE_SIDE, SQUARE_SIDE = 960, 192
_PROCESSES = 2
_REASONS = {
    PhotoState.CHANGED: "The file has changed since it was labelled.",
    PhotoState.UNREADABLE: "The file is not there any more, or cannot be read.",
}


@dataclass(frozen=True, slots=True)
class NoPicture:
    """Why a photo cannot be shown."""

    reason: str


class PhotoPreviews:
    """Makes pictures, in processes that may crash, of photos below `folder`.

    Raises:
        OSError: the system does not let a process start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._make = ProcessCalls(make_thumbnail, _PROCESSES, THUMBNAIL_TIMEOUT_S)

    def close(self) -> None:
        """End the processes."""
        self._make.close()

    def picture(self, name: str, sha256: str, is_whole: bool) -> bytes | NoPicture:
        """Return a WebP picture of the photo that a row names, the whole or the square that a model reads.

        Where its bytes are not those of the row's `sha256`, return why there is none.
        """
        path = path_below(self._folder, name)
        if path is None:
            return NoPicture("The file is not below the folder of the photos.")
        side = WHOLE_SIDE if is_whole else SQUARE_SIDE
        state = self._make(ThumbnailOrder(0, path, sha256, side, is_whole, follow_links=False))
        if state is not PhotoState.SAME:
            return NoPicture(_REASONS.get(state or PhotoState.UNREADABLE, ""))
        return read_thumbnail(sha256, side, is_whole) or NoPicture("The picture could not be made.")


def path_below(folder: Path, name: str) -> str | None:
    """Return the path of the file that a row calls `name`; None where the name or a link leads out of `folder`.

    `folder` is resolved. A table is no more to be trusted than a photo: its names may be of any kind.
    """
    raw = file_system_name(name)
    # A row may have a NUL also as the escape that stands for a byte which is no UTF-8.
    if "\0" in raw or any(part in ("", ".", "..") for part in raw.split("/")):
        return None
    path = os.path.realpath(f"{folder}/{raw}")
    return path if path.startswith(f"{str(folder).rstrip('/')}/") else None
