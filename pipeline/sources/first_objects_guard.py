"""Ends a run none of whose first objects may be read: one sentence in place of an error row for each of millions."""

from __future__ import annotations

from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError
from pipeline.records import ErrorClass, ItemError
from pipeline.sources.store_url import Place

# A listing may be allowed where reading is not. Fewer might be single objects that are kept from this reader.
_FIRST_OBJECTS = 16


class FirstObjectsGuard:
    """Counts the results of a run's first objects."""

    def __init__(self, photos: Place) -> None:
        self._photos = photos
        self._refused = 0
        self._reason = ""
        self._is_over = False

    def refuses(self, error: ItemError | None) -> bool:
        """Take the result of one more object; True where this and all objects before were refused, 16 of them."""
        self._is_over |= error is None or error.error_class is not ErrorClass.PERMISSION
        if self._is_over or error is None:
            return False
        self._refused += 1
        self._reason = error.reason
        return self._refused == _FIRST_OBJECTS

    @property
    def exception(self) -> InputMissingError:
        """What ends the run."""
        text = f"none of the first {_FIRST_OBJECTS} objects can be read: {self._reason}"
        return InputMissingError(f"{terminal_text(str(self._photos))}: {text}")
