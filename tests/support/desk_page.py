"""The desk's page in a browser: what a person presses, and what the page then shows."""

from __future__ import annotations

from typing import Any

from tests.support.chromium import run_script, wait_on_page


def wait_for_photo(driver: Any) -> None:
    """Wait until the desk has the focus and shows a picture."""
    wait_on_page(driver, "document.activeElement.id === 'desk' && document.getElementById('picture').naturalWidth > 0")


def text(driver: Any, name: str) -> str:
    """Return the text of the element with this id."""
    return str(run_script(driver, "return document.getElementById(arguments[0]).textContent", name))


def press(driver: Any, *keys: str) -> None:
    """Press keys one after the other."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def wait_for_count(driver: Any, reviewed: int) -> None:
    """Wait until so many of the 30 photos are reviewed."""
    wait_on_page(
        driver, "document.getElementById('counter').textContent === arguments[0]", f"{reviewed} of 30 photos reviewed"
    )


def answered(driver: Any, reviewed: int, *keys: str) -> str:
    """Press keys that answer for the photo shown; return its name once the answer is saved and the next photo shown."""
    name = text(driver, "name")
    press(driver, *keys)
    wait_for_count(driver, reviewed)
    wait_on_page(
        driver,
        "document.getElementById('name').textContent !== arguments[0]"
        " || document.getElementById('said').textContent.includes('No further photo')",
        name,
    )
    wait_for_photo(driver)
    return name
