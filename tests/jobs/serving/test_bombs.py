"""Pictures of few bytes that grow to a gigabyte: each is one row, and no process of the server grows with them."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models.artifact import Artifact
from tests.support.serve_process import LabelServe
from tests.support.watch_process import photo

_SIDE = 30_000
_BLOCK = bytes(1 << 20)
_MOST_GROWTH_BYTES = 100 << 20


@pytest.fixture(scope="module")
def server(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServe]:
    with LabelServe(tmp_path_factory.mktemp("serve"), "-m", str(tiny_model.path)) as running:
        assert running.label(("a.png", photo(4))).rows[0]["label_1"] == "blue"
        yield running


def _compressed_zeros(count: int) -> bytes:
    compressor = zlib.compressobj(9)
    whole, rest = divmod(count, len(_BLOCK))
    return b"".join([*(compressor.compress(_BLOCK) for _ in range(whole)), compressor.compress(bytes(rest))]) + (
        compressor.flush()
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _huge_picture() -> bytes:
    """Return a PNG of 900 megapixels."""
    facts = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    rows = _compressed_zeros(_SIDE * (_SIDE + 1))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", facts) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _with_chunk(kind: bytes, head: bytes) -> bytes:
    """Return a small sound PNG with a further chunk, whose text or profile is a gigabyte."""
    whole = photo(2)
    header_end = 8 + 25
    return whole[:header_end] + _chunk(kind, head + _compressed_zeros(1 << 30)) + whole[header_end:]


def _highest_bytes(server: LabelServe) -> dict[int, int]:
    """Return the most memory that each process of the server ever had resident."""
    found = {}
    for process in [psutil.Process(server.process.pid), *server.workers()]:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        assert match is not None
        found[process.pid] = int(match[1]) * 1024
    return found


@pytest.mark.parametrize("bomb", ["pixels", "zTXt", "iTXt", "iCCP"])
def test_a_bomb_is_one_row_and_no_process_grows_with_it(server: LabelServe, bomb: str) -> None:
    heads = {"zTXt": b"a\0\0", "iTXt": b"a\0\1\0\0\0", "iCCP": b"a\0\0"}
    content = _huge_picture() if bomb == "pixels" else _with_chunk(bomb.encode(), heads[bomb])
    assert len(content) < 2 << 20
    before = _highest_bytes(server)
    answers = [server.label((f"{bomb}.png", content), ("a.png", photo(3))).rows for _ in range(3)]
    for bad, good in answers:
        assert bad["status"] in ("ok", "error"), bad
        if bomb == "pixels":
            assert bad["error"].startswith(f"too_large: {_SIDE} x {_SIDE} pixels")
        elif bad["status"] == "ok":
            assert bad["label_1"] == "red"
        assert good["label_1"] == "green"
    after = _highest_bytes(server)
    assert set(after) == set(before), "a process was replaced"
    assert max(after[pid] - before[pid] for pid in before) < _MOST_GROWTH_BYTES
