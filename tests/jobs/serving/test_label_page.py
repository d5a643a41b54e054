"""The page of a real server in a real Chromium: photos dropped, chosen and pasted get the right labels."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.artifact import Artifact
from tests.support.axe import accessibility_problems
from tests.support.chromium import desktop_chromium, emulate_screen, needs_chromium, requested_urls
from tests.support.serve_process import LabelServe
from tests.support.tiny_model import write_tiny_model
from tests.support.waiting import wait_until
from tests.support.watch_process import photo

pytestmark = needs_chromium

HOSTILE = ('<img src=x onerror="document.title=1">.png', "</h3><script>document.title=1</script>.png", "\u202egnp.png")
TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def server(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServe]:
    folder = tmp_path_factory.mktemp("serve")
    write_tiny_model(folder / "shelf.onnx")
    with LabelServe(folder, "-m", str(tiny_model.path), "-m", str(folder / "shelf.onnx")) as running:
        yield running


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with desktop_chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(driver: Any, server: LabelServe) -> Any:
    driver.get(server.url)
    wait_until(lambda: driver.execute_script("return document.getElementById('model').options.length") == 2, "models")
    return driver


_FILES = """
const files = arguments[0].map(([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  return new File([bytes], name, { type: "image/png" });
});
const transfer = new DataTransfer();
for (const file of files) transfer.items.add(file);
"""
_DROP = "document.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));"
_PASTE = "document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }));"
_CHOOSE = "const f = document.getElementById('files'); f.files = transfer.files; f.dispatchEvent(new Event('change'));"


def _give(driver: Any, how: str, photos: Sequence[tuple[str, bytes]]) -> None:
    driver.execute_script(_FILES + how, [[name, base64.b64encode(content).decode()] for name, content in photos])


def _cards(driver: Any) -> list[list[str]]:
    """Return the lines of text of each card, once none is waiting any more."""
    script = "return [...document.querySelectorAll('.result .text')].map(e => [...e.children].map(c => c.innerText))"
    wait_until(lambda: "waiting" not in str(driver.execute_script(script)), "the answers")
    return list(driver.execute_script(script))


def _status(driver: Any) -> str:
    return str(driver.execute_script("return document.getElementById('status').textContent"))


def _assert_quiet(driver: Any, server: LabelServe) -> None:
    """Nothing was logged to the console, and nothing requested from anywhere but the server."""
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "DEBUG"] == []
    elsewhere = [url for url in requested_urls(driver) if not url.startswith((server.url, "blob:", "data:"))]
    assert elsewhere == []


def test_three_dropped_photos_one_of_them_broken_get_their_labels(page: Any, server: LabelServe) -> None:
    broken = photo(3)[:70]
    _give(page, _DROP, [("red.png", photo(2)), ("broken.png", broken), ("blue.png", photo(4))])
    red, half, blue = _cards(page)
    assert (red[0], red[1].split("\n")[:2]) == ("red.png", ["red", "100.0%"])
    assert (blue[0], blue[1].split("\n")[:2]) == ("blue.png", ["blue", "100.0%"])
    assert half[:2] == ["broken.png", "The file ends before the picture does."]
    assert half[2].startswith("truncated: ")
    assert _status(page).startswith("3 photos · ")
    _assert_quiet(page, server)


def test_photos_are_also_chosen_and_pasted_and_cleared(page: Any, server: LabelServe) -> None:
    _give(page, _CHOOSE, [("green.png", photo(3))])
    _give(page, _PASTE, [("cyan.png", photo(6))])
    assert [card[1].split("\n")[0] for card in _cards(page)] == ["cyan", "green"]
    images = "return [...document.querySelectorAll('.result img')].every(i => i.complete && i.naturalWidth === 36)"
    wait_until(lambda: bool(page.execute_script(images)), "thumbnails")
    page.execute_script("document.getElementById('clear').click()")
    assert _cards(page) == []
    assert _status(page) == "No photo yet."
    _assert_quiet(page, server)


def test_another_model_is_chosen_and_loaded(page: Any, server: LabelServe, tiny_model: Artifact) -> None:
    from selenium.webdriver.support.select import Select

    choice = Select(page.find_element("id", "model"))
    assert [option.text for option in choice.options] == ["tiny", "shelf"]
    choice.select_by_value("shelf")
    _give(page, _DROP, [("yellow.png", photo(5))])
    [[name, bars, model]] = _cards(page)
    assert (name, bars.split("\n")[0], model) == ("yellow.png", "yellow", tiny_model.model_id)
    loaded = {model["name"]: model["is_loaded"] for model in server.request("GET", "/v1/models").json["models"]}
    assert loaded == {"tiny": True, "shelf": True}
    _assert_quiet(page, server)


def test_hostile_names_are_shown_as_text(page: Any, server: LabelServe) -> None:
    _give(page, _DROP, [(name, photo(index)) for index, name in enumerate(HOSTILE)])
    # A browser writes a quote in a name as %22, and the card shows the name that the browser knows.
    assert [card[0] for card in _cards(page)] == list(HOSTILE)
    assert page.execute_script("return document.querySelectorAll('h3 *, [src=x]').length") == 0
    assert page.title == "Label photos"
    _assert_quiet(page, server)


def test_the_keyboard_alone_reaches_every_control(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    _give(page, _DROP, [("red.png", photo(2))])
    _cards(page)
    page.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(7):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.append(page.execute_script("const e = document.activeElement; return e.id || e.className || e.tagName"))
    assert reached[:5] == ["skip", "theme", "choose", "model", "clear"]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem_and_nothing_is_cut_off(page: Any, width: int, height: int, scheme: str) -> None:
    emulate_screen(page, width, height, scheme)
    _give(page, _DROP, [("red.png", photo(2)), ("broken.png", b"no picture"), ("n" * 120 + ".png", photo(3))])
    _cards(page)
    page.execute_script("document.getElementById('token-form').hidden = false")
    assert accessibility_problems(page) == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    emulate_screen(page, 1280, 900, "light")


def test_a_server_with_a_token_asks_for_it_once(driver: Any, tiny_model: Artifact, tmp_path: Path) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path), "--token", TOKEN) as server:
        driver.get(server.url)
        wait_until(lambda: bool(driver.find_element("id", "token").is_displayed()), "the question")
        _give(driver, _DROP, [("red.png", photo(2))])
        field = driver.find_element("id", "token")
        field.send_keys("not it\n")
        wait_until(lambda: "not the token" in driver.find_element("id", "token-problem").text, "the refusal")
        field.clear()
        field.send_keys(TOKEN + "\n")
        [card] = _cards(driver)
        assert card[1].split("\n")[0] == "red"
        assert not driver.find_element("id", "token").is_displayed()
        assert driver.execute_script("return document.cookie") == ""
        driver.get(server.url)
        wait_until(
            lambda: driver.execute_script("return document.getElementById('model').options.length") == 1, "models"
        )
        assert not driver.find_element("id", "token").is_displayed()
