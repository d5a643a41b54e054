"""The one place that imports pyarrow: every other module of pipeline and jobs takes pyarrow's modules from here."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa  # noqa: TID251
import pyarrow.csv as pa_csv  # noqa: TID251
import pyarrow.parquet as pq  # noqa: TID251

if TYPE_CHECKING:
    import pyarrow.compute as pc  # noqa: TID251

__all__ = ["arrow_file", "pa", "pa_csv", "pc", "pq"]


def arrow_file(path: Path) -> IO[bytes]:
    """Return a local file, open for Arrow to read; it is closed when nothing refers to it any more.

    Of a path Arrow makes a URI or UTF-8, and neither is possible with every path.

    Raises:
        OSError: the file cannot be opened.
    """
    file: Any = pa.OSFile
    opened: IO[bytes] = file(os.fsencode(path))
    return opened


class _PandasIsMissing:
    """A finder of modules that reports pandas as not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _leave_pandas_unimported() -> None:
    """Make pyarrow's one look for pandas fail; pyarrow remembers the answer for its arrays and scalars.

    No row needs pandas, and importing it takes a third of a second at the moment when a run publishes its table.
    """
    # None in sys.modules is not enough: pyarrow is compiled, and its import statement takes that None for the module.
    finder = _PandasIsMissing()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


class _ComputeWhenUsed:
    """The module pyarrow.compute, imported by its first use: a first run needs nothing of it, and its import makes a
    function of every kernel, which takes longer than the import of pyarrow itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("pyarrow.compute"), name)


if not TYPE_CHECKING:
    pc = _ComputeWhenUsed()

if "pandas" not in sys.modules:
    _leave_pandas_unimported()
