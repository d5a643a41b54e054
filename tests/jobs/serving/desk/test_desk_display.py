"""What the desk shows: on any screen, to a screen reader, of hostile names, and where a picture is missing."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.jobs.serving.desk.conftest import HOSTILE_NAME
from tests.support.axe import accessibility_problems
from tests.support.chromium import emulate_screen, needs_chromium, run_script, wait_on_page
from tests.support.desk_page import answered, press, text, wait_for_count, wait_for_photo
from tests.support.desk_process import DeskServe

pytestmark = needs_chromium


def test_a_screen_reader_gets_a_name_for_every_control_and_hostile_names_are_text(page: Any) -> None:
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "link", "textbox", "combobox", "image")
    controls = [node for node in tree if not node.get("ignored") and node["role"]["value"] in roles]
    assert len(controls) > 8
    assert [node for node in controls if not node.get("name", {}).get("value", "").strip()] == []
    press(page, "G")
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
        answered(page, 1, Keys.ENTER)
        press(page, "G")
        wait_on_page(page, "document.querySelectorAll('#grid .card').length >= 29")
        press(page, " ")
        assert accessibility_problems(page) == []
        press(page, *"yel")
        wait_on_page(page, "document.querySelector('#matches li[aria-selected=true]')")
        assert accessibility_problems(page) == []
        press(page, Keys.ESCAPE)
        for hidden in ("token-form", "no-picture"):
            run_script(page, "document.getElementById(arguments[0]).hidden = false", hidden)
        for name in ("problem", "no-picture", "token-problem", "old-label", "conflict-text"):
            run_script(
                page, "document.getElementById(arguments[0]).textContent = 'Something is wrong with this.'", name
            )
        press(page, "G")
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
            press(page, key)
        background = run_script(page, "return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in background.strip("rgb()").split(",")) / 3
        assert (brightness < 60) == (scheme == "dark")
    finally:
        emulate_screen(page, 1280, 900, "light")


def test_a_photo_without_a_picture_cannot_be_judged(page: Any, desk: DeskServe) -> None:
    from selenium.webdriver.common.keys import Keys

    names = [text(page, "name")]
    press(page, Keys.ARROW_RIGHT)
    wait_on_page(page, "document.getElementById('name').textContent !== arguments[0]", names[0])
    missing = desk.queue(limit=30)[20]["name"]
    (desk.photos / missing).unlink()
    for _ in range(19):
        press(page, Keys.ARROW_RIGHT)
    wait_on_page(page, "document.getElementById('name').textContent === arguments[0]", missing)
    wait_on_page(page, "document.getElementById('no-picture').textContent.includes('not there any more')")
    for keys in (Keys.ENTER, "U", "2"):
        press(page, keys)
        wait_on_page(page, "document.getElementById('said').textContent.includes('no picture')")
        run_script(page, "document.getElementById('said').textContent = ''")
    press(page, "G")
    wait_on_page(page, "document.querySelectorAll('#grid .card').length === 30")
    press(page, "U")
    wait_on_page(page, "document.getElementById('said').textContent.includes('no picture')")
    assert desk.reviewed() == {}
    press(page, "G")
    # The browser reports the answers of 404.
    page.get_log("browser")


def test_the_picture_of_the_photo_before_is_never_beside_the_next_label(page: Any, desk: DeskServe) -> None:
    """A photo whose picture takes long, as of a camera on a slow disk."""
    from selenium.webdriver.common.keys import Keys

    shown = "(({ naturalWidth, hidden, classList }) => naturalWidth > 0 && !hidden"
    shown += " && !classList.contains('waiting'))(document.getElementById('picture'))"
    desk.process.send_signal(signal.SIGSTOP)
    # Further than the pictures that are fetched ahead.
    for _ in range(8):
        press(page, Keys.ARROW_RIGHT)
    assert not run_script(page, f"return {shown}")
    assert run_script(page, "return getComputedStyle(document.getElementById('picture')).visibility") == "hidden"
    press(page, Keys.ENTER)
    wait_on_page(page, "document.getElementById('said').textContent.includes('no picture')")
    desk.process.send_signal(signal.SIGCONT)
    wait_on_page(page, shown)
    assert desk.reviewed() == {}


def test_a_newer_run_is_announced_and_its_table_shown_on_request(page: Any, desk: DeskServe) -> None:
    from selenium.webdriver.common.keys import Keys

    assert not page.find_element("id", "newer").is_displayed()
    desk.table.touch()
    answered(page, 1, Keys.ENTER)
    wait_on_page(page, "!document.getElementById('newer').hidden")
    page.find_element("id", "load-newer").click()
    wait_on_page(page, "document.getElementById('newer') && document.getElementById('newer').hidden")
    wait_for_photo(page)
    wait_for_count(page, 1)
