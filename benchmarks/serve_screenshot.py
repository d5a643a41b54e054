"""The screenshots of label-serve's page, with photos that scikit-image ships and a broken one.

python benchmarks/serve_screenshot.py FOLDER          writes serve-{desktop,phone}-{light,dark}.png there
python benchmarks/serve_screenshot.py docs --manual   writes docs/serve.png alone
"""

from __future__ import annotations

import argparse
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from report_screenshot import screens, shrink
from serve import label_serve

from tests.support.chromium import chromium

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png")
BROKEN = "half a photo.png"
_FORMS = (("desktop", 1280, 860), ("phone", 390, 1400))


def main() -> None:
    """Start the server, give photos to its page, take screenshots of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manual", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, label_serve() as (_, port), chromium(Path(name) / "profile") as driver:
        photos = write_photos(Path(name))
        for ending in screens(driver, _FORMS, arguments.manual):
            take(driver, port, photos, arguments.folder / f"serve{ending}.png")
        if arguments.manual:
            shrink(arguments.folder / "serve.png")


def write_photos(folder: Path) -> list[Path]:
    """The photos as files in `folder`, the last of them cut off in the middle."""
    data = resources.files("skimage") / "data"
    found = {name: (data / name).read_bytes() for name in PHOTOS}
    found[BROKEN] = found["coffee.png"][:150_000]
    for name, content in found.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in found]


def take(driver: Any, port: int, photos: list[Path], target: Path) -> None:
    """Open the page, choose `photos` and save a screenshot once each is answered and drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(f"http://127.0.0.1:{port}/")
    chooser = driver.find_element("id", "files")
    driver.execute_script("arguments[0].hidden = false", chooser)
    chooser.send_keys("\n".join(map(str, photos)))
    driver.execute_script("arguments[0].hidden = true", chooser)
    answered = "return document.querySelectorAll('.result .bars, .result .problem').length === arguments[0]"
    drawn = "return [...document.querySelectorAll('.result img')].every(image => image.complete)"
    WebDriverWait(driver, 60).until(lambda opened: opened.execute_script(answered, len(photos)))
    WebDriverWait(driver, 60).until(lambda opened: opened.execute_script(drawn))
    target.parent.mkdir(exist_ok=True)
    driver.save_screenshot(str(target))
    print(target)


if __name__ == "__main__":
    main()
