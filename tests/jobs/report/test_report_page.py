from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact
from pipeline.reviews.decisions import ReviewKind
from tests.conftest import run_label_dir, write_photos
from tests.jobs.report.test_label_report import write_page
from tests.support.chromium import (
    desktop_chromium,
    emulate_screen,
    needs_chromium,
    requested_urls,
    run_script,
    wait_on_page,
)
from tests.support.review_kit import review
from tests.support.waiting import wait_until

pytestmark = needs_chromium

# No page takes this long, so it never decides a test but one that fails.
HOSTILE = (
    b'"><img src=x onerror=document.title=1>.png',
    b"</script><script>document.title=1<\\.png",
    b"{{7*7}} &lt; %41 #a?b=c;'x.png",
    b"\xff\xfe not UTF-8.png",
    b"line\nbreak and \xe2\x80\xaegnp.png",
    b"a:b\\x41.png",
)


@pytest.fixture(scope="module")
def page(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    photos = folder / "photos"
    write_photos(photos, 150)
    for index, name in enumerate(HOSTILE):
        path = Path(os.fsdecode(os.fsencode(photos) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        # The greyer, the less certainly white: without them every photo would have one probability, sorted or not.
        Image.new("RGB", (40 + index, 33), (250 - 20 * index,) * 3).save(path, "PNG")
    (photos / "<b>broken.jpg").touch()
    assert run_label_dir(tiny_model, "photos", "out.parquet", "--min-prob", "0.999", cwd=folder).returncode == 3
    write_page(folder, "out.parquet", "page.html", "--title", "<i>Mine</i>")
    return folder / "page.html"


@pytest.fixture(scope="module")
def driver(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with desktop_chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(driver: Any, page: Path) -> Any:
    driver.get(page.as_uri())
    return driver


def _wait_for_count(driver: Any, count: str) -> None:
    wait_on_page(driver, "document.getElementById('count').textContent === arguments[0]", count)


def _set(driver: Any, field: str, value: str) -> None:
    # The page gathers input for 80 ms before it draws; the timer that ends this call is due after that one.
    driver.execute_async_script(
        "const [name, value, done] = arguments; const f=document.getElementById(name); f.value=value;"
        "f.dispatchEvent(new Event('input', {bubbles: true})); setTimeout(done, 100)",
        field,
        value,
    )


def _names(driver: Any) -> list[str]:
    return list(run_script(driver, "return [...document.querySelectorAll('.card .file')].map(e => e.textContent)"))


def test_a_page_opened_from_disk_shows_its_thumbnails_and_sends_nothing_over_the_network(opened: Any) -> None:
    wait_on_page(opened, "document.querySelectorAll('.card img[src]').length === 60")
    wait_on_page(opened, "[...document.querySelectorAll('.card img')].every(i => i.complete && i.naturalWidth === 192)")
    _wait_for_count(opened, "156 photos")
    assert [url for url in requested_urls(opened) if not url.startswith(("file:", "data:"))] == []
    assert opened.get_log("browser") == []


def test_hostile_names_are_shown_as_text_and_their_photos_open(opened: Any) -> None:
    expected = sorted(
        [
            '"><img src=x onerror=document.title=1>.png',
            "</script><script>document.title=1<\\.png",
            "{{7*7}} &lt; %41 #a?b=c;'x.png",
            "\\xff\\xfe not UTF-8.png",
            "line\nbreak and \u202egnp.png",
            "a:b\\x5cx41.png",
        ]
    )
    _set(opened, "sort", "name")
    wait_on_page(opened, "document.querySelector('.file').textContent === arguments[0]", expected[0])
    found = [name for page in range(3) for name in _page(opened, page)]
    assert sorted(name for name in found if not name[:5].isdigit()) == expected
    assert opened.title == "<i>Mine</i> - 157 photos"
    assert run_script(opened, "return document.querySelectorAll('main script, .card img[src=x], h1 i').length") == 0
    for name in expected:
        _open(opened, name)
        wait_on_page(opened, "document.getElementById('photo-image').naturalWidth >= 40")
        assert run_script(opened, "return document.getElementById('photo-missing').hidden"), name
        run_script(opened, "document.getElementById('photo').close()")
        # The page clears the photo in the dialog's close event, which comes after the call of close().
        wait_on_page(opened, "!document.getElementById('photo-image').hasAttribute('src')")
    assert opened.get_log("browser") == []


def _page(driver: Any, number: int) -> list[str]:
    script = "const p=document.getElementById('page'); p.value=arguments[0]+1; p.dispatchEvent(new Event('change'))"
    run_script(driver, script, number)
    return _names(driver)


def _open(driver: Any, name: str) -> None:
    script = "[...document.querySelectorAll('.card')].find(c => c.title === arguments[0])?.click()"
    for number in range(3):
        _page(driver, number)
        run_script(driver, script, name)
    wait_on_page(driver, "document.getElementById('photo-name').textContent === arguments[0]", name)


def test_filters_narrow_the_photos_and_sorting_orders_them(opened: Any) -> None:
    _set(opened, "text", "-RED")
    _wait_for_count(opened, "19 of 156 photos")
    _set(opened, "text", "")
    _wait_for_count(opened, "156 photos")
    run_script(opened, "document.querySelector('[data-label=\"white\"]').click()")
    _wait_for_count(opened, "25 of 156 photos")
    wait_on_page(opened, "document.querySelector('[data-label=\"white\"]').getAttribute('aria-pressed') === 'true'")
    run_script(opened, "document.querySelector('.filters [type=reset]').click()")
    _wait_for_count(opened, "156 photos")
    _set(opened, "max", "1")
    _wait_for_count(opened, "0 of 156 photos")
    _set(opened, "max", "100")
    _wait_for_count(opened, "156 photos")
    uncertain = _probabilities(opened)
    assert uncertain == sorted(uncertain)
    assert uncertain[0] < uncertain[-1]
    _set(opened, "sort", "certain")
    wait_until(lambda: _probabilities(opened) != uncertain, "another order")
    certain = _probabilities(opened)
    assert certain == sorted(certain, reverse=True)


def _probabilities(driver: Any) -> list[float]:
    script = "[...document.querySelectorAll('.line.first span:last-child')].map(e => parseFloat(e.textContent))"
    return list(run_script(driver, f"return {script}"))


def test_the_unsure_alone_can_be_shown(opened: Any, page: Path) -> None:
    statuses = pq.read_table(page.parent / "out.parquet")["status"].to_pylist()
    unsure = statuses.count("unsure")
    assert 0 < unsure < statuses.count("ok")
    _wait_for_count(opened, "156 photos")
    run_script(opened, "document.getElementById('unsure').click()")
    _wait_for_count(opened, f"{unsure} of 156 photos")


def test_the_keyboard_alone_finds_opens_turns_and_closes_photos(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(opened).send_keys(*keys).perform()

    def wait_for_photo(name: str) -> None:
        wait_on_page(opened, "document.getElementById('photo-name').textContent === arguments[0]", name)

    press("/")
    wait_on_page(opened, "document.activeElement.id === 'text'")
    press("0001")
    _wait_for_count(opened, "11 of 156 photos")
    _, second, third, *_ = _names(opened)
    run_script(opened, "document.querySelector('.card').focus()")
    press(Keys.ARROW_RIGHT)
    wait_on_page(opened, "document.activeElement.title === arguments[0]", second)
    press(Keys.ENTER)
    wait_on_page(opened, "document.getElementById('photo').open")
    wait_for_photo(second)
    press(Keys.ARROW_RIGHT)
    wait_for_photo(third)
    press(Keys.ESCAPE)
    wait_on_page(opened, "!document.getElementById('photo').open")
    wait_on_page(opened, "document.activeElement.title === arguments[0]", third)


def test_a_screen_reader_gets_a_name_for_every_control(opened: Any) -> None:
    wait_until(lambda: len(_controls(opened)) > 60, "the controls of 60 photos in the accessibility tree")
    nameless = [node for node in _controls(opened) if not node.get("name", {}).get("value", "").strip()]
    assert nameless == []
    levels = run_script(opened, "return [...document.querySelectorAll('main h2, header h1')].map(e => e.tagName)")
    assert levels[0] == "H1"
    assert run_script(opened, "return document.documentElement.lang") == "en"


def _controls(driver: Any) -> list[dict[str, Any]]:
    # The browser builds the tree after the page has loaded, so the first trees may lack all of the page.
    tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "link", "textbox", "searchbox", "combobox", "spinbutton")
    return [node for node in tree if not node.get("ignored") and node["role"]["value"] in roles]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_the_page_fits_phones_and_desktops_in_light_and_dark(driver: Any, page: Path, width: int, scheme: str) -> None:
    emulate_screen(driver, width, 900, scheme)
    try:
        driver.get(page.as_uri())
        # A phone's browser widens its window to a page that is too wide.
        wait_on_page(driver, "window.innerWidth === arguments[0]", width)
        assert run_script(driver, "return document.documentElement.scrollWidth <= window.innerWidth")
        background = run_script(driver, "return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in background.strip("rgb()").split(",")) / 3
        assert (brightness < 60) == (scheme == "dark")
    finally:
        emulate_screen(driver, 1280, 900, "light")


def test_reviewed_photos_have_a_mark_and_a_filter(
    driver: Any, tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("reviewed")
    first, second, third, _ = sorted(write_photos(folder / "photos", 4))
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=folder).returncode == 0
    review(folder / "out.parquet", folder / "photos" / first, "<b>tiger</b>")
    review(folder / "out.parquet", folder / "photos" / second, "white")
    review(folder / "out.parquet", folder / "photos" / third, None, kind=ReviewKind.UNKNOWN)
    write_page(folder, "out.parquet", "page.html")
    driver.get((folder / "page.html").as_uri())
    _wait_for_count(driver, "4 photos")
    _set(driver, "sort", "name")
    marks = "return [...document.querySelectorAll('.card .reviewed')].map(e => e.textContent)"
    assert run_script(driver, marks) == ["✓ <b>tiger</b>", "✓ white", "✓ unknown"]
    for choice, names in (("yes", 3), ("other", 2), ("no", 1)):
        _set(driver, "reviewed", choice)
        _wait_for_count(driver, f"{names} of 4 photos")
    assert driver.get_log("browser") == []
