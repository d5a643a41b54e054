"""The screenshots of a report, of the photos that scikit-image ships.

python benchmarks/report_screenshot.py FOLDER       writes report-{desktop,phone}-{light,dark}.png there
python benchmarks/report_screenshot.py docs --readme    writes docs/report.png alone
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.chromium import chromium, emulate_screen

PHOTOS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
README_COLOURS = 160


def main() -> None:
    """Label the photos, write the page, take screenshots of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        page = write_page(root)
        with chromium(root / "profile") as driver:
            if arguments.readme:
                emulate_screen(driver, 1280, 1240, "light")
                take(driver, page, arguments.folder / "report.png")
                shrink(arguments.folder / "report.png")
                return
            for ending in screens(driver, (("desktop", 1280, 1500), ("phone", 390, 1500))):
                take(driver, page, arguments.folder / f"report{ending}.png")


def screens(driver: Any, forms: Sequence[tuple[str, int, int]], is_for_manual: bool = False) -> Iterator[str]:
    """Yield the ending of a picture's name for each screen, emulated meanwhile; the manual has the first form."""
    for form, width, height in forms[:1] if is_for_manual else forms:
        for scheme in ("light",) if is_for_manual else ("light", "dark"):
            emulate_screen(driver, width, height, scheme)
            yield "" if is_for_manual else f"-{form}-{scheme}"


def write_page(root: Path) -> Path:
    """The report of the photos that are installed, and of two broken ones, by the real commands."""
    photos = root / "photos"
    photos.mkdir()
    data = resources.files("skimage") / "data"
    for name in PHOTOS:
        if (data / name).is_file():
            (photos / name).write_bytes((data / name).read_bytes())
    (photos / "half.png").write_bytes((data / "coffee.png").read_bytes()[:100_000])
    (photos / "empty.jpg").touch()
    bin_folder = Path(sys.executable).parent
    subprocess.run([str(bin_folder / "label-dir"), "-q", "photos", "labels.parquet"], cwd=root, check=False)
    command = [str(bin_folder / "label-report"), "labels.parquet", "report.html", "--title", "Photos of scikit-image"]
    subprocess.run(command, cwd=root, check=True)
    return root / "report.html"


def take(driver: Any, page: Path, target: Path) -> None:
    """Open `page` and save a screenshot once every thumbnail is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(page.as_uri())
    drawn = "return [...document.querySelectorAll('.card img')].every(image => image.complete && image.naturalWidth)"
    WebDriverWait(driver, 20).until(lambda opened: opened.execute_script(drawn))
    target.parent.mkdir(exist_ok=True)
    driver.save_screenshot(str(target))
    print(target)


def shrink(target: Path) -> None:
    """Reduce the colours of a PNG, so that a README loads quickly."""
    with Image.open(target) as image:
        small = image.convert("RGB").quantize(README_COLOURS, dither=Image.Dither.NONE)
    small.save(target, optimize=True)


if __name__ == "__main__":
    main()
