"""The names of the two loaders; commands import this file, and it imports nothing."""

from __future__ import annotations

from enum import StrEnum


class LoaderKind(StrEnum):
    """Whose DataLoader starts the decode workers: ours, which feeds them by pipes, or torch's."""

    PIPES = "pipes"
    TORCH = "torch"

    @classmethod
    def _missing_(cls, value: object) -> LoaderKind | None:
        return LOADER_ALIASES.get(str(value))


# Names of earlier versions.
LOADER_ALIASES = {"dataloader": LoaderKind.TORCH}
# All that LoaderKind(...) accepts, as plain strings: click shows the members of an enum under other names.
LOADER_NAMES = (*(kind.value for kind in LoaderKind), *LOADER_ALIASES)


DEFAULT_LOADER = LoaderKind.PIPES
