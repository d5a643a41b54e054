"""A report on 50,000 photos: the time to write it, its size, and its response times in a real Chromium.

python benchmarks/report_page.py [--photos 50000]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from PIL import Image

from models.zoo import imagenet_labels
from pipeline.records import ErrorClass, ItemError, Row
from pipeline.tables.schema import to_batch
from pipeline.tables.writer import export
from tests.support.chromium import chromium, emulate_screen, requested_urls

# Distinct files. Every name still has a thumbnail of its own, because each row has a sha256 of its own.
FILES = 1000
SIDE = 320
# Runs before the page's own script and records the times at which thumbnails were drawn.
WATCH = """
window.drawn = [];
document.addEventListener("load", (event) => {
  if (event.target.tagName === "IMG") window.drawn.push(performance.now());
}, true);
"""


def main() -> None:
    """Make photos and a table, write the page twice, open it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=50_000)
    count = parser.parse_args().photos
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = make_photos(root / "photos", count)
        export(batches(root / "photos", names), root / "labels.parquet", 3)
        for case in ("thumbnails made", "thumbnails from the cache"):
            began_s = time.monotonic()
            write_page(root)
            print(f"page for {count} photos, {case}: {time.monotonic() - began_s:.1f} s")
        print(f"size of the file: {(root / 'report.html').stat().st_size / 1e6:.1f} MB")
        with chromium(root / "profile") as driver:
            open_page(driver, root / "report.html")


def make_photos(photos: Path, count: int) -> list[str]:
    """The names of `count` photos cut out of scikit-image's: 1,000 pictures, and no two files with the same bytes."""
    photos.mkdir()
    data = resources.files("skimage") / "data"
    shipped = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
    scenes = [Image.open(io.BytesIO((data / name).read_bytes())).convert("RGB") for name in shipped]
    rng = random.Random(7)
    names = [f"photo-{index:06d}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        if index >= FILES:
            # What follows the end of a JPEG is no part of its picture, and makes it a photo of its own.
            (photos / name).write_bytes((photos / names[index % FILES]).read_bytes() + name.encode())
            continue
        scene = scenes[index % len(scenes)]
        side = rng.randint(120, min(scene.size))
        left, top = rng.randint(0, scene.width - side), rng.randint(0, scene.height - side)
        scene.resize((SIDE, SIDE), box=(left, top, left + side, top + side)).save(photos / name, quality=88)
    return names


def batches(photos: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of rows whose labels and probabilities are distributed as in real folders."""
    rng = random.Random(7)
    labels = imagenet_labels()
    broken = ItemError(ErrorClass.TRUNCATED, "the JPEG data ends before the picture does")
    for begin in range(0, len(names), 8192):
        rows = []
        for name in names[begin : begin + 8192]:
            first = rng.betavariate(2.5, 1)
            second = (1 - first) * rng.random()
            found = tuple(labels[min(999, int(rng.expovariate(0.01)) + rank)] for rank in range(3))
            probabilities = (first, second, (1 - first - second) / 2)
            digest = hashlib.sha256((photos / name).read_bytes()).hexdigest()
            when_us = int(1.7e15) + rng.randrange(10**12)
            if rng.random() < 0.005:
                rows.append(Row(name, broken, (), (), None, None, 1, when_us, None, "benchmark", when_us))
            else:
                rows.append(Row(name, None, found, probabilities, SIDE, SIDE, 1, when_us, digest, "benchmark", when_us))
        yield to_batch(rows, 3)


def write_page(root: Path) -> None:
    """Run `label-report` as a user would, its cache below `root`."""
    command = [str(Path(sys.executable).parent / "label-report"), "labels.parquet", "report.html"]
    subprocess.run(command, cwd=root, env={**os.environ, "XDG_CACHE_HOME": str(root / "cache")}, check=True)


def open_page(driver: Any, page: Path) -> None:
    """Open the page, use it, and print times, memory and requests."""
    emulate_screen(driver, 1280, 900, "light")
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    driver.get("about:blank")
    requested_urls(driver)
    driver.get(page.as_uri())
    wait(driver, "return window.drawn.length >= 60")
    first_ms, last_ms = driver.execute_script("return [window.drawn[0], window.drawn[59]]")
    loaded_ms = driver.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    print(f"first thumbnail after {first_ms / 1e3:.2f} s, 60 after {last_ms / 1e3:.2f} s")
    print(f"the whole file parsed after {loaded_ms / 1e3:.2f} s")
    for action, script in (
        ("search", "const t=document.getElementById('text'); t.value='cat'; t.dispatchEvent(new Event('input'))"),
        ("sort by label", "document.getElementById('sort').value='label'"),
        ("go to the last page", "document.getElementById('page').value=1e6"),
    ):
        print(f"{action}: {timed_ms(driver, script):.0f} ms")
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    print(
        f"memory of the tab: {tab_bytes(driver) / 1e6:.0f} MB resident, {heap_bytes(driver) / 1e6:.0f} MB of it objects"
    )
    asked = [url for url in requested_urls(driver) if not url.startswith(("file:", "data:"))]
    print(f"network requests: {len(asked)}; messages on the console: {len(driver.get_log('browser'))}")


def timed_ms(driver: Any, script: str) -> float:
    """Milliseconds from `script` until the page has drawn its result, without the page's own delay."""
    answer = (
        "const done=arguments[0]; const began=performance.now();"
        + script
        + ";document.getElementById('filters').dispatchEvent(new Event('input'));"
        + "document.getElementById('page').dispatchEvent(new Event('change'));"
        + "setTimeout(() => requestAnimationFrame(() => setTimeout(() => done(performance.now()-began-80))), 80)"
    )
    return float(driver.execute_async_script(answer))


def wait(driver: Any, script: str) -> None:
    """Wait until `script` returns a true value."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 120, 0.05).until(lambda opened: opened.execute_script(script))


def tab_bytes(driver: Any) -> int:
    """Resident memory of the largest renderer, which is the tab of the page."""
    browser = psutil.Process(driver.service.process.pid)
    resident = [0]
    for child in browser.children(recursive=True):
        # A process of the browser may end at any moment.
        with contextlib.suppress(psutil.NoSuchProcess):
            resident += [child.memory_info().rss] if "--type=renderer" in child.cmdline() else []
    return max(resident)


def heap_bytes(driver: Any) -> int:
    """Memory of JavaScript's objects."""
    return int(driver.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"])


if __name__ == "__main__":
    main()
