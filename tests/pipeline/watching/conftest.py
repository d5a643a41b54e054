"""An inbox, and daemons that watch it by a clock that tests move."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.watch_kit import Clock, Watch, Watched


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path


@pytest.fixture
def watch(folder: Path, clock: Clock) -> Iterator[Watch]:
    """Make daemons over `folder` that end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Watched(folder, clock, **options))


@pytest.fixture
def watched(watch: Watch) -> Watched:
    return watch()
