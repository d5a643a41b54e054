"""What one machine costs a run on many: measured here, each part alone, for scaling_simulation.py."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from merging import ROWS_PER_PART, merge_cost, rows_of, write_parts
from sample_photos import make_folder, source_photos

from pipeline.sources.store_listing import listed
from pipeline.sources.store_url import StoreUrl
from pipeline.sources.walk import WalkCounts, WalkRules
from pipeline.system.cpus import this_machine, usable_cores
from pipeline.tables.writer import export

_RANGES = 10
_KEYS = 200_000
_KEYS_PER_PAGE = 1000
_MERGED_ROWS = 500_000
_ENTRY = (
    "<Contents><Key>photos/{number:09d}.jpg</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{number:032x}&quot;</ETag><Size>60000</Size></Contents>"
)


@dataclass(frozen=True, slots=True)
class Costs:
    """Photos/s of a core once a run is under way, seconds until then, seconds that each range takes beyond its photos;
    bytes of a photo, seconds and bytes of a part's table, keys listed and rows merged in a second."""

    photos_per_s: float
    start_s: float
    range_s: float
    photo_bytes: float
    part_s: float
    part_bytes: float
    keys_per_s: float
    merged_rows_per_s: float

    def lines(self) -> str:
        """The costs as text."""
        return (
            f"labelling: {self.photos_per_s:.1f} photos/s a core, of {self.photo_bytes / 1000:.0f} kB\n"
            f"start: {self.start_s:.2f} s\n"
            f"each range: {self.range_s:.3f} s\n"
            f"part of {ROWS_PER_PART} rows: {self.part_s:.3f} s, {self.part_bytes / 1e6:.2f} MB\n"
            f"listing: {self.keys_per_s:.0f} keys/s\n"
            f"merging: {self.merged_rows_per_s:.0f} rows/s"
        )


def measured(photos: Path | None, count: int, runs: int) -> Costs:
    """Measure all costs on this machine, labelling `count` photos and a fifth of them; medians of `runs`."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        source = source_photos(photos)
        megapixels = None if photos else 0.19
        few = make_folder(home / "few", source, max(1, count // 5), megapixels)
        many = make_folder(home / "many", source, count, megapixels)
        few_count, many_count = len(list(few.iterdir())), len(list(many.iterdir()))
        _labelling_s(few, home, count)
        timed = [
            (
                _labelling_s(few, home, count),
                _labelling_s(many, home, count),
                _labelling_s(many, home, count // _RANGES),
            )
            for _ in range(runs)
        ]
        few_s, many_s, ranges_s = (statistics.median(column) for column in zip(*timed, strict=True))
        rate = (many_count - few_count) / (many_s - few_s)
        part_s, part_bytes = _part_cost(home)
        write_parts(home / "parts", _MERGED_ROWS)
        merges = [merge_cost([home / "parts"], home / "merged.parquet") for _ in range(runs)]
        return Costs(
            photos_per_s=rate / usable_cores(this_machine()),
            start_s=max(0.0, few_s - few_count / rate),
            range_s=max(0.0, (ranges_s - many_s) / (_RANGES - 1)),
            photo_bytes=statistics.mean(path.stat().st_size for path in many.iterdir()),
            part_s=part_s,
            part_bytes=part_bytes,
            keys_per_s=statistics.median(_keys_per_s() for _ in range(runs)),
            merged_rows_per_s=statistics.median(merge.rows / merge.seconds for merge in merges),
        )


def _labelling_s(photos: Path, home: Path, photos_per_range: int) -> float:
    """Seconds of a `label-dir` that labels all photos into new parts."""
    with tempfile.TemporaryDirectory(dir=home) as parts:
        label_dir = Path(sys.executable).with_name("label-dir")
        options = ["--quiet", "--part-rows", str(max(1, photos_per_range))]
        began_s = time.perf_counter()
        subprocess.run([label_dir, *options, photos, f"{parts}/new/"], check=True)
        return time.perf_counter() - began_s


def _part_cost(home: Path) -> tuple[float, int]:
    rows, path = rows_of(range(ROWS_PER_PART)), home / "part.parquet"
    seconds = []
    for _ in range(5):
        began_s = time.perf_counter()
        export([rows], path, 3)
        seconds.append(time.perf_counter() - began_s)
    return statistics.median(seconds), path.stat().st_size


def _keys_per_s() -> float:
    with _listing_server() as port:
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
        )
        began_s = time.perf_counter()
        count = sum(1 for _ in listed(StoreUrl("s3", "bucket", "photos/"), WalkRules(), WalkCounts()))
        seconds = time.perf_counter() - began_s
    assert count == _KEYS
    return count / seconds


@contextmanager
def _listing_server() -> Iterator[int]:
    """A server of ready-made pages of a listing, in a process of its own on loopback; yields its port."""
    command = [sys.executable, "-c", "import scaling_costs; scaling_costs.serve_listing()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def serve_listing() -> None:
    """Serve a listing until told to stop, after the port was printed."""
    pages = [_page(number) for number in range(_KEYS // _KEYS_PER_PAGE)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = pages[int(parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0])]
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


def _page(number: int) -> bytes:
    begin = number * _KEYS_PER_PAGE
    is_last = begin + _KEYS_PER_PAGE >= _KEYS
    token = "" if is_last else f"<NextContinuationToken>{number + 1}</NextContinuationToken>"
    entries = "".join(_ENTRY.format(number=key) for key in range(begin, begin + _KEYS_PER_PAGE))
    head = f"<Name>bucket</Name><IsTruncated>{str(not is_last).lower()}</IsTruncated>{token}"
    return f"<ListBucketResult>{head}{entries}</ListBucketResult>".encode()
