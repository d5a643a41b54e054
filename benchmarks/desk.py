"""The desk of label-serve with 100,000 rows, in a real Chromium: the first photo, and the next after each answer.

    python benchmarks/desk.py photos/        of your photos, resized to 12 megapixels
    python benchmarks/desk.py                of those that scikit-image ships

The files of the photos that are looked at are there, each with bytes of its own; of the other rows the table alone.
Needs the extras `serve` and `test`, and Chromium with its driver.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from sample_photos import make_folder, source_photos
from serve import label_serve, percentile

from models.cache import ensure_artifact
from models.spec import DEFAULT_MODEL
from models.system.cpu_kind import this_cpu
from models.zoo import imagenet_labels
from pipeline.records import Row
from pipeline.tables.schema import to_batch
from pipeline.tables.writer import export
from tests.support.chromium import chromium, emulate_screen

_DISTINCT = 12
_SIDE_PIXELS = (4000, 3000)
# Resolves with the milliseconds from the start of the navigation until a photo is drawn.
_FIRST = """
const done = arguments[0], image = () => document.getElementById("picture");
const look = () => (image() && image().complete && image().naturalWidth > 0
  ? image().decode().then(() => requestAnimationFrame(() => done(performance.now()))) : requestAnimationFrame(look));
look();
"""
# Presses Enter; resolves with the milliseconds until the next photo is drawn, with its name.
_NEXT = """
const done = arguments[0], image = document.getElementById("picture"), before = image.dataset.sha256;
const began = performance.now();
document.getElementById("desk").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
const look = () => (image.dataset.sha256 !== before && image.complete && image.naturalWidth > 0
  ? image.decode().then(() => requestAnimationFrame(() => done(performance.now() - began)))
  : requestAnimationFrame(look));
look();
"""


def make_table(root: Path, sources: Sequence[Path], rows: int, looked_at: int, megapixels: float) -> None:
    """Write `photos/` with the `looked_at` least certain photos, and `labels.parquet` of `rows` rows, below `root`."""
    originals = make_folder(root / "originals", sources, min(_DISTINCT, len(sources)), megapixels)
    contents = [path.read_bytes() for path in sorted(originals.iterdir())]
    (root / "photos").mkdir()
    digests = {}
    for number in range(looked_at):
        # What follows the end of a JPEG is no part of its picture, and makes it a photo that no cache knows.
        content = contents[number % len(contents)] + os.urandom(16)
        (root / "photos" / _name(number)).write_bytes(content)
        digests[number] = hashlib.sha256(content).hexdigest()
    export(_batches(rows, digests), root / "labels.parquet", 3)


def _name(number: int) -> str:
    return f"photo-{number:06d}.jpg"


def _batches(count: int, digests: dict[int, str]) -> Iterator[pa.RecordBatch]:
    """Batches of rows whose certainty rises with their number, labels as of a folder of everything."""
    chance = random.Random(7)
    labels = imagenet_labels()
    width, height = _SIDE_PIXELS
    when_us = int(1.7e15)
    for begin in range(0, count, 8192):
        rows = []
        for number in range(begin, min(begin + 8192, count)):
            found = tuple(labels[min(999, int(chance.expovariate(0.01)) + rank)] for rank in range(3))
            first = 0.01 + 0.98 * number / count
            digest = digests.get(number) or hashlib.sha256(f"row {number}".encode()).hexdigest()
            probabilities = (first, first / 3, first / 9)
            name = _name(number)
            rows.append(Row(name, None, found, probabilities, width, height, 1, when_us, digest, "benchmark", when_us))
        yield to_batch(rows, 3)


def first_photo_ms(driver: Any, port: int) -> float:
    """Milliseconds from the address to the first photo, in a browser that has nothing of the page."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get("about:blank")
    driver.get(f"http://127.0.0.1:{port}/desk/")
    return float(driver.execute_async_script(_FIRST))


def next_photos_ms(driver: Any, answers: int, pause_s: float) -> list[float]:
    """Milliseconds from each answer to the next photo, of a person who looks at each photo for `pause_s`."""
    found = []
    for _ in range(answers):
        time.sleep(pause_s)
        found.append(float(driver.execute_async_script(_NEXT)))
    return found


def summary(values: Sequence[float]) -> str:
    """Median, 95th percentile and highest of milliseconds."""
    return (
        f"median {statistics.median(values):.0f} ms, p95 {percentile(values, 0.95):.0f} ms, most {max(values):.0f} ms"
    )


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rows", default=100_000, show_default=True, help="Rows of the table.")
@click.option("--answers", default=100, show_default=True, help="Photos that are confirmed.")
@click.option("--pause", default=0.5, show_default=True, help="Seconds that each photo is looked at.")
@click.option("--megapixels", default=12.0, show_default=True, help="Size of the photos.")
@click.option("--openings", default=10, show_default=True, help="How often the page is opened.")
def desk(photos: Path | None, rows: int, answers: int, pause: float, megapixels: float, openings: int) -> None:
    """Measure the desk with PHOTOS, or with those that scikit-image ships."""
    click.echo(f"{date.today().isoformat()}, {this_cpu().name}, {os.cpu_count()} cores")
    ensure_artifact(DEFAULT_MODEL, click.echo)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_table(root, source_photos(photos), rows, min(rows, answers + 60), megapixels)
        began_s = time.monotonic()
        with label_serve("--review", root / "labels.parquet", "--photos", root / "photos") as (_, port):
            click.echo(f"start of the server with {rows:,} rows: {time.monotonic() - began_s:.1f} s")
            with chromium(root / "profile") as driver:
                emulate_screen(driver, 1280, 900, "light")
                opened = [first_photo_ms(driver, port) for _ in range(openings)]
                click.echo(f"first photo: {summary(opened)}, the first time {opened[0]:.0f} ms")
                click.echo(f"next photo: {summary(next_photos_ms(driver, answers, pause))}")


if __name__ == "__main__":
    desk()
