"""The screenshots of the desk of label-serve, with photos that scikit-image ships.

python benchmarks/desk_screenshot.py FOLDER          writes desk-{one,many,label}-{desktop,phone}-{light,dark}.png there
python benchmarks/desk_screenshot.py docs --manual   writes docs/desk.png and docs/desk-many.png alone
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from report_screenshot import screens, shrink
from serve import command, label_serve

from tests.support.chromium import chromium, emulate_screen

PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
# Of which the label is right; then the one that is shown.
_CONFIRMED = ("chelsea.png", "coffee.png", "camera.png")
_SHOWN = "motorcycle_left.png"
_FORMS = (("desktop", 1280, 900), ("phone", 390, 844))
# As WebDriver names keys.
_ENTER, _ESCAPE, _LEFT, _RIGHT = "\ue007", "\ue00c", "\ue012", "\ue014"


def main() -> None:
    """Label the photos, open their desk, review some of them, take screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manual", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        table, photos = labelled_photos(Path(name))
        desk = ("--review", table, "--photos", photos, "--reviewer", "Ann")
        with label_serve(*desk) as (_, port), chromium(Path(name) / "profile") as driver:
            emulate_screen(driver, 1280, 900, "light")
            open_desk(driver, port)
            for number, photo in enumerate(_CONFIRMED, 1):
                confirm(driver, photo, number)
            for ending in screens(driver, _FORMS, arguments.manual):
                open_desk(driver, port)
                take_all(driver, arguments.folder, ending)


def labelled_photos(folder: Path) -> tuple[Path, Path]:
    """A table of the photos below `folder`, and the folder of the photos."""
    photos, table = folder / "photos", folder / "labels.parquet"
    photos.mkdir()
    data = resources.files("skimage") / "data"
    for name in PHOTOS:
        (photos / name).write_bytes((data / name).read_bytes())
    subprocess.run(command("jobs.label_dir", "--quiet", photos, table), check=True)
    return table, photos


def open_desk(driver: Any, port: int) -> None:
    """Open the desk with all photos, the least certain first, and wait for a picture."""
    driver.get(f"http://127.0.0.1:{port}/desk/?order=uncertain&state=all")
    _wait(driver, "document.activeElement.id === 'desk'")
    go_to(driver, _SHOWN)


def confirm(driver: Any, photo: str, number: int) -> None:
    """Confirm a photo, which is then the `number`th that is reviewed."""
    go_to(driver, photo)
    _press(driver, _ENTER)
    _wait(driver, f"document.getElementById('counter').textContent.startsWith('{number} of ')")


def go_to(driver: Any, photo: str) -> None:
    """Go to a photo by the arrows, from the first on, and wait for its picture."""
    for key in (_LEFT,) * len(PHOTOS) + (_RIGHT,) * len(PHOTOS):
        if driver.execute_script("return document.getElementById('name').textContent") == photo:
            break
        _press(driver, key)
    _wait(driver, f"document.getElementById('name').textContent === '{photo}'")
    _wait(driver, "document.getElementById('picture').complete && document.getElementById('picture').naturalWidth > 0")


def take_all(driver: Any, folder: Path, ending: str) -> None:
    """Save a screenshot of one photo and of many; with an `ending` one of the choice of a label, too."""
    take(driver, folder / f"desk{'-one' if ending else ''}{ending}.png")
    if ending:
        _press(driver, "s")
        _wait(driver, "document.querySelector('#matches li[aria-selected=true]')")
        take(driver, folder / f"desk-label{ending}.png")
        _press(driver, _ESCAPE)
    _press(driver, "G")
    drawn = "[...document.querySelectorAll('#grid img')].every((image) => image.complete && image.naturalWidth > 0)"
    _wait(driver, f"document.querySelectorAll('#grid .card').length === {len(PHOTOS)}")
    driver.execute_script("for (const image of document.querySelectorAll('#grid img')) image.loading = 'eager'")
    _wait(driver, drawn)
    for number in range(2):
        driver.execute_script("document.querySelectorAll('#grid .card')[arguments[0]].click()", number)
    driver.execute_script("scrollTo(0, 0)")
    take(driver, folder / f"desk-many{ending}.png")
    _press(driver, "G")


def take(driver: Any, target: Path) -> None:
    """Save what is on the screen."""
    target.parent.mkdir(exist_ok=True)
    driver.save_screenshot(str(target))
    shrink(target)
    print(target)


def _wait(driver: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60, poll_frequency=0.05).until(lambda opened: opened.execute_script(f"return {condition}"))


def _press(driver: Any, keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(keys).perform()


if __name__ == "__main__":
    main()
