"""A whole review in a real browser: by keyboard alone, with undo, reload and two tabs in conflict."""

from __future__ import annotations

from typing import Any

from tests.support.chromium import needs_chromium, requested_urls, wait_on_page
from tests.support.desk_page import answered, press, text, wait_for_count, wait_for_photo
from tests.support.desk_process import DeskServe, sha256_of

pytestmark = needs_chromium

HOSTILE_LABEL = "<script>document.title=1</script>"


def test_thirty_photos_are_reviewed_by_keyboard_alone_with_undo_and_a_reload_in_the_middle(
    page: Any, desk: DeskServe
) -> None:
    from selenium.webdriver.common.keys import Keys

    names = [answered(page, 1, Keys.ENTER)]
    names.append(answered(page, 2, *"yel", Keys.ENTER))
    names.append(answered(page, 3, "N", *HOSTILE_LABEL, Keys.ENTER))
    names.append(answered(page, 4, "U"))
    names.append(answered(page, 5, "2"))
    said = {desk.photos / name: label for name, label in zip(names, _labels_said(desk, names), strict=True)}
    assert list(said.values())[1:4] == ["yellow", HOSTILE_LABEL, None]
    assert page.title != "1"

    undone = text(page, "name")
    press(page, "Z")
    wait_for_count(page, 4)
    wait_on_page(page, "document.getElementById('name').textContent === arguments[0]", names[4])
    assert undone != names[4]
    page.refresh()
    wait_for_photo(page)
    wait_for_count(page, 4)
    press(page, "Z")
    wait_for_count(page, 3)
    wait_on_page(page, "document.getElementById('name').textContent === arguments[0]", names[3])
    for reviewed in range(4, 31):
        answered(page, reviewed, Keys.ENTER)
    assert len(desk.reviewed()) == 30
    assert desk.queue(state="open") == []
    assert "accuracy" in text(page, "estimate")
    assert [url for url in requested_urls(page) if not url.startswith((desk.url.removesuffix("desk/"), "about:"))] == []


def _labels_said(desk: DeskServe, names: list[str]) -> list[str | None]:
    said = desk.reviewed()
    return [said.get(sha256_of(desk.photos / name)) for name in names]


def test_a_photo_that_two_tabs_review_is_shown_with_the_other_answer_and_not_overwritten(
    page: Any, desk: DeskServe
) -> None:
    from selenium.webdriver.common.keys import Keys

    first = page.current_window_handle
    name = text(page, "name")
    page.switch_to.new_window("tab")
    try:
        page.get(desk.url)
        wait_for_photo(page)
        answered(page, 1, *"yel", Keys.ENTER)
        page.close()
        page.switch_to.window(first)
        press(page, *"cya", Keys.ENTER)
        wait_on_page(page, "document.getElementById('conflict').open")
        assert f"{name}: “yellow” by ann" in text(page, "conflict-list")
        assert _labels_said(desk, [name]) == ["yellow"]
        press(page, Keys.ENTER)
        wait_on_page(page, "!document.getElementById('conflict').open")
        wait_on_page(page, "document.getElementById('review').textContent === '✓ “yellow” by ann'")
        assert _labels_said(desk, [name]) == ["yellow"]
        press(page, *"cya", Keys.ENTER)
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

    press(page, "G")
    wait_on_page(page, "document.querySelectorAll('#grid .card').length === 30")
    wait_on_page(page, "document.activeElement.classList.contains('card')")
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    wait_on_page(page, "document.querySelectorAll('.card[aria-pressed=true]').length === 3")
    press(page, *"mag", Keys.ENTER)
    wait_for_count(page, 3)
    assert list(desk.reviewed().values()) == ["magenta"] * 3
    wait_on_page(page, "document.querySelectorAll('.card[aria-pressed=true]').length === 0")
    press(page, "Z")
    wait_for_count(page, 0)
    assert desk.reviewed() == {}
