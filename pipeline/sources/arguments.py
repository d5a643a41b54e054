"""What a user names, checked before anything is loaded: the place of the photos, and the table."""

from __future__ import annotations

from pathlib import Path

from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, OutputError, UsageError, output_errors
from pipeline.sources.store_client import refuse_missing_client
from pipeline.sources.store_url import Place, StoreUrl

OUT_SUFFIXES = (".parquet", ".csv")


def refuse_missing_photos(photos: Place) -> None:
    """Check that `photos` is a folder, or a URL that this installation can open; the store is not asked.

    Raises:
        InputMissingError: the folder is missing, is something else, or cannot be looked at.
        UsageError: the URL needs a package that is not installed.
    """
    if isinstance(photos, StoreUrl):
        refuse_missing_client_of(photos)
        return
    try:
        if photos.is_dir():
            return
        what = "is not a folder" if photos.exists() else "does not exist"
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    raise InputMissingError(f"{terminal_text(str(photos))} {what}")


def refuse_missing_client_of(place: Place) -> None:
    """Check that what a URL needs is installed; raises UsageError."""
    if isinstance(place, StoreUrl):
        refuse_missing_client(place)


def checked_out(out: Path) -> Path:
    """Return `out` with links resolved, so that a run replaces the file and not a link to the file.

    Raises:
        UsageError: `out` does not end in .parquet or .csv.
        OutputError: the folder of `out` is missing, or links lead in a circle.
    """
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise UsageError(f"{terminal_text(str(out))} must end in .parquet or .csv")
    with output_errors(out):
        try:
            resolved = out.resolve(strict=out.is_symlink() and out.exists())
        except RuntimeError as error:
            raise OutputError(f"{terminal_text(str(out))} is a link that leads to itself; remove the link") from error
        if resolved.is_symlink():
            raise OutputError(f"{terminal_text(str(out))} is a link that leads to itself; remove the link")
        if not resolved.parent.is_dir():
            raise OutputError(f"the folder of {terminal_text(str(out))} does not exist; make it first")
    return resolved
