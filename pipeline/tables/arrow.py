"""pyarrow, kept from importing pandas, which it does at its first array wherever pandas is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa

__all__ = ["pa"]


class _NoPandas:
    """A finder that knows of one module that it is not there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
        return None


def _make_the_first_array() -> None:
    # No row needs pandas, and its import is a third of a second, spent where a run publishes its table. pyarrow
    # remembers the answer for its arrays, and asks again where somebody wants a pandas object of it.
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


if "pandas" not in sys.modules:
    _make_the_first_array()
