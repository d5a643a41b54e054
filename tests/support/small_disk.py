"""A disk of 1 MB, for tests to fill."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until


@contextlib.contextmanager
def mounted_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 1 MB at a folder that is made, until the block ends; skips the test without the right to."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        # The workers of a program that was killed end a moment after it.
        wait_until(lambda: subprocess.run(["umount", str(folder)], check=False).returncode == 0, "the end of its users")
