"""When so many rows would go that their photos are more likely away than deleted: a bare mount point, a wrong rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.system.outside_text import terminal_text
from pipeline.errors import PhotosGoneError
from pipeline.sources.store_url import Place

# A share of fewer rows than these says nothing: of three photos two are soon deleted.
_FEWEST_ROWS_OF_A_SHARE = 20


@dataclass(frozen=True, slots=True)
class GoneLimit:
    """How many rows of the last table a run may remove: a `share` of more than 20 rows, or a `count`.

    All rows may go only where the limit says so: a share of 1, or a count that reaches them all.
    """

    share: float | None = 0.5
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> GoneLimit:
        """Return the limit that a user wrote: `30%` of the rows, or `100` rows.

        Raises:
            ValueError: the text is neither a percentage from 0% to 100% nor a count.
        """
        if text.endswith("%"):
            share = float(text.removesuffix("%")) / 100
            if not 0 <= share <= 1:
                raise ValueError(f"{text!r} is not between 0% and 100%")
            return cls(share)
        count = int(text)
        if count < 0:
            raise ValueError(f"{text!r} is negative")
        return cls(None, count)

    def allows(self, gone: int, total: int) -> bool:
        """Tell whether `gone` of `total` rows may be removed."""
        if not gone or self.share == 1:
            return True
        if self.share is None:
            return gone <= (self.count or 0)
        return gone < total and (total <= _FEWEST_ROWS_OF_A_SHARE or gone <= self.share * total)


DEFAULT_GONE_LIMIT = GoneLimit()


def refuse_if_gone(limit: GoneLimit, gone: int, total: int, photos: Place, out: Path) -> None:
    """Stop a run that would remove more rows than `limit` allows.

    Raises:
        PhotosGoneError: `gone` of the `total` rows of the last table have no photo any more.
    """
    if limit.allows(gone, total):
        return
    raise PhotosGoneError(
        f"{gone} of the {total} photos in {terminal_text(str(out))} are not in {terminal_text(str(photos))} any more; "
        "the table is left as it was",
        "if they were deleted, run again with --max-gone 100%, otherwise look whether the folder is mounted and the "
        "rules (--include, --exclude) are meant",
    )
