"""A whole review in a real browser: by keyboard alone, with undo, reload and two tabs in conflict."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.artifact import Artifact
from tests.conftest import run_label_dir, write_photos
from tests.support.axe import accessibility_problems
from tests.support.chromium import (
    desktop_chromium,
    emulate_screen,
    needs_chromium,
    requested_urls,
    run_script,
    wait_on_page,
)
from tests.support.desk_process import DeskServe, sha256_of

pytestmark = needs_chromium

HOSTILE_NAME = "\"><img src=x onerror=document.title=1> & {{7*7}}'.png"
HOSTILE_LABEL = "<script>document.title=1</script>"


@pytest.fixture(scope="module")
def labelled(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 labelled photos, one of a hostile name."""
    folder = tmp_path_factory.mktemp("labelled")
    write_photos(folder / "photos", 29)
    Image.new("RGB", (120, 40), (90, 90, 90)).save(folder / "photos" / HOSTILE_NAME, "PNG")
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def desk(labelled: Path, tiny_model: Artifact, tmp_path: Path) -> Iterator[DeskServe]:
    """The desk of a copy of the labelled folder."""
    home = shutil.copytree(labelled, tmp_path / "home")
    with DeskServe(home, tiny_model, "--reviewer", "ann") as serving:
        yield serving


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with desktop_chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(driver: Any, desk: DeskServe) -> Iterator[Any]:
    driver.get(desk.url)
    _wait_for_photo(driver)
    yield driver
    # The browser reports an answer of 409, which is how a conflict is told.
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [message for message in errors if "409" not in message] == []
    driver.get("about:blank")


def _wait_for_photo(driver: Any) -> None:
    wait_on_page(driver, "document.activeElement.id === 'desk' && document.getElementById('picture').naturalWidth > 0")


def _text(driver: Any, name: str) -> str:
    return str(run_script(driver, "return document.getElementById(arguments[0]).textContent", name))


def _press(driver: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def _wait_for_count(driver: Any, reviewed: int) -> None:
    wait_on_page(
        driver, "document.getElementById('counter').textContent === arguments[0]", f"{reviewed} of 30 photos reviewed"
    )


def _answered(driver: Any, reviewed: int, *keys: str) -> str:
    """Press keys that answer for the photo shown; return its name once the answer is saved and the next photo shown."""
    name = _text(driver, "name")
    _press(driver, *keys)
    _wait_for_count(driver, reviewed)
    wait_on_page(
        driver,
        "document.getElementById('name').textContent !== arguments[0]"
        " || document.getElementById('said').textContent.includes('No further photo')",
        name,
    )
    _wait_for_photo(driver)
    return name


def test_thirty_photos_are_reviewed_by_keyboard_alone_with_undo_and_a_reload_in_the_middle(
    page: Any, desk: DeskServe
) -> None:
    from selenium.webdriver.common.keys import Keys

    names = [_answered(page, 1, Keys.ENTER)]
    names.append(_answered(page, 2, *"yel", Keys.ENTER))
    names.append(_answered(page, 3, "N", *HOSTILE_LABEL, Keys.ENTER))
    names.append(_answered(page, 4, "U"))
    names.append(_answered(page, 5, "2"))
    said = {desk.photos / name: label for name, label in zip(names, _labels_said(desk, names), strict=True)}
    assert list(said.values())[1:4] == ["yellow", HOSTILE_LABEL, None]
    assert page.title != "1"

    undone = _text(page, "name")
    _press(page, "Z")
    _wait_for_count(page, 4)
    wait_on_page(page, "document.getElementById('name').textContent === arguments[0]", names[4])
    assert undone != names[4]
    page.refresh()
    _wait_for_photo(page)
    _wait_for_count(page, 4)
    _press(page, "Z")
    _wait_for_count(page, 3)
    wait_on_page(page, "document.getElementById('name').textContent === arguments[0]", names[3])
    for reviewed in range(4, 31):
        _answered(page, reviewed, Keys.ENTER)
    assert len(desk.reviewed()) == 30
    assert desk.queue(state="open") == []
    assert "accuracy" in _text(page, "estimate")
    assert [url for url in requested_urls(page) if not url.startswith((desk.url.removesuffix("desk/"), "about:"))] == []


def _labels_said(desk: DeskServe, names: list[str]) -> list[str | None]:
    said = desk.reviewed()
    return [said.get(sha256_of(desk.photos / name)) for name in names]


def test_a_photo_that_two_tabs_review_is_shown_with_the_other_answer_and_not_overwritten(
    page: Any, desk: DeskServe
) -> None:
    from selenium.webdriver.common.keys import Keys

    first = page.current_window_handle
    name = _text(page, "name")
    page.switch_to.new_window("tab")
    try:
        page.get(desk.url)
        _wait_for_photo(page)
        _answered(page, 1, *"yel", Keys.ENTER)
        page.close()
        page.switch_to.window(first)
        _press(page, *"cya", Keys.ENTER)
        wait_on_page(page, "document.getElementById('conflict').open")
        assert f"{name}: “yellow” by ann" in _text(page, "conflict-list")
        assert _labels_said(desk, [name]) == ["yellow"]
        _press(page, Keys.ENTER)
        wait_on_page(page, "!document.getElementById('conflict').open")
        wait_on_page(page, "document.getElementById('review').textContent === '✓ “yellow” by ann'")
        assert _labels_said(desk, [name]) == ["yellow"]
        _press(page, *"cya", Keys.ENTER)
        wait_on_page(page, "document.getElementById('said').textContent.includes('“cyan”')")
        assert _labels_said(desk, [name]) == ["cyan"]
    finally:
        for handle in page.window_handles[1:]:
            page.switch_to.window(handle)
            page.close()
        page.switch_to.window(first)


def test_several_photos_are_selected_and_named_at_once(page: Any, desk: DeskServe) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    _press(page, "G")
    wait_on_page(page, "document.querySelectorAll('#grid .card').length === 30")
    wait_on_page(page, "document.activeElement.classList.contains('card')")
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    wait_on_page(page, "document.querySelectorAll('.card[aria-pressed=true]').length === 3")
    _press(page, *"mag", Keys.ENTER)
    _wait_for_count(page, 3)
    assert list(desk.reviewed().values()) == ["magenta"] * 3
    wait_on_page(page, "document.querySelectorAll('.card[aria-pressed=true]').length === 0")
    _press(page, "Z")
    _wait_for_count(page, 0)
    assert desk.reviewed() == {}


def test_a_screen_reader_gets_a_name_for_every_control_and_hostile_names_are_text(page: Any) -> None:
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "link", "textbox", "combobox", "image")
    controls = [node for node in tree if not node.get("ignored") and node["role"]["value"] in roles]
    assert len(controls) > 8
    assert [node for node in controls if not node.get("name", {}).get("value", "").strip()] == []
    _press(page, "G")
    wait_on_page(
        page, "[...document.querySelectorAll('.card .file')].some(e => e.textContent === arguments[0])", HOSTILE_NAME
    )
    assert page.title == "Review out.parquet"
    assert run_script(page, "return document.querySelectorAll('main img[src=x], main script').length") == 0


_SCREENS = pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
)


@_SCREENS
def test_axe_finds_no_serious_problem_on_the_desk_nor_in_its_dialogs(page: Any, width: int, scheme: str) -> None:
    from selenium.webdriver.common.keys import Keys

    emulate_screen(page, width, 900, scheme)
    try:
        wait_on_page(page, "window.innerWidth === arguments[0]", width)
        assert accessibility_problems(page) == []
        _answered(page, 1, Keys.ENTER)
        _press(page, "G")
        wait_on_page(page, "document.querySelectorAll('#grid .card').length >= 29")
        _press(page, " ")
        assert accessibility_problems(page) == []
        _press(page, *"yel")
        wait_on_page(page, "document.querySelector('#matches li[aria-selected=true]')")
        assert accessibility_problems(page) == []
        _press(page, Keys.ESCAPE)
        for hidden in ("token-form", "no-picture"):
            run_script(page, "document.getElementById(arguments[0]).hidden = false", hidden)
        for name in ("problem", "no-picture", "token-problem", "old-label", "conflict-text"):
            run_script(
                page, "document.getElementById(arguments[0]).textContent = 'Something is wrong with this.'", name
            )
        _press(page, "G")
        wait_on_page(page, "!document.getElementById('one').hidden")
        assert accessibility_problems(page) == []
        run_script(page, "document.getElementById('conflict').showModal()")
        assert accessibility_problems(page) == []
        run_script(page, "document.getElementById('conflict').close()")
    finally:
        emulate_screen(page, 1280, 900, "light")


@_SCREENS
def test_the_desk_fits_phones_and_desktops_in_light_and_dark(page: Any, width: int, scheme: str) -> None:
    emulate_screen(page, width, 900, scheme)
    try:
        wait_on_page(page, "window.innerWidth === arguments[0]", width)
        for key in ("G", "G"):
            assert run_script(page, "return document.documentElement.scrollWidth <= window.innerWidth")
            _press(page, key)
        background = run_script(page, "return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in background.strip("rgb()").split(",")) / 3
        assert (brightness < 60) == (scheme == "dark")
    finally:
        emulate_screen(page, 1280, 900, "light")
