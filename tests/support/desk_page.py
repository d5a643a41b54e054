"""The desk's page in a browser: what a person presses, and what the page then shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_PATIENCE_S = 60.0


def run(driver: Any, script: str, *arguments: object) -> Any:
    """Return what a script of the page returns."""
    return driver.execute_script(script, *arguments)


def wait(driver: Any, condition: str, *arguments: object) -> None:
    """Wait until an expression of the page is true."""
    wait_until_true(lambda: run(driver, f"return {condition}", *arguments), f"{condition} {arguments}")


def wait_until_true(is_so: Callable[[], object], condition: str) -> None:
    """Wait until `is_so` is true; fail after a minute."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"never came true: {condition}"
        time.sleep(0.02)


def wait_for_photo(driver: Any) -> None:
    """Wait until the desk has the focus and shows a picture."""
    wait(driver, "document.activeElement.id === 'desk' && document.getElementById('picture').naturalWidth > 0")


def text(driver: Any, name: str) -> str:
    """Return the text of the element with this id."""
    return str(run(driver, "return document.getElementById(arguments[0]).textContent", name))


def press(driver: Any, *keys: str) -> None:
    """Press keys one after the other."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def wait_for_count(driver: Any, reviewed: int) -> None:
    """Wait until so many of the 30 photos are reviewed."""
    wait(driver, "document.getElementById('counter').textContent === arguments[0]", f"{reviewed} of 30 photos reviewed")


def answered(driver: Any, reviewed: int, *keys: str) -> str:
    """Press keys that answer for the photo shown; return its name once the answer is saved and the next photo shown."""
    name = text(driver, "name")
    press(driver, *keys)
    wait_for_count(driver, reviewed)
    wait(
        driver,
        "document.getElementById('name').textContent !== arguments[0]"
        " || document.getElementById('said').textContent.includes('No further photo')",
        name,
    )
    wait_for_photo(driver)
    return name
