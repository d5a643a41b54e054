"""A headless Chromium for the tests of pages, driven through Debian's chromedriver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until

BROWSER = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
_MISSING = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
# Continuous integration sets CI and must try every page: there, a missing browser fails the tests of pages.
needs_chromium = pytest.mark.skipif((BROWSER is None or DRIVER is None) and not os.environ.get("CI"), reason=_MISSING)
# A busy machine needs more than the driver's 30 s for a script that waits.
_SCRIPT_TIMEOUT_S = 120.0
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Yield a driver of a fresh browser that keeps its files in folder `profile`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert BROWSER is not None and DRIVER is not None, _MISSING
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(_SCRIPT_TIMEOUT_S)
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def desktop_chromium(profile: Path) -> Iterator[Any]:
    """Yield a driver as `chromium` does, on a blank page of a light desktop screen, its first requests forgotten."""
    with chromium(profile) as driver:
        emulate_screen(driver, 1280, 900, "light")
        # The browser's own first page sends requests too, which say nothing about the pages under test.
        driver.get("about:blank")
        requested_urls(driver)
        yield driver


def emulate_screen(driver: Any, width: int, height: int, scheme: str) -> None:
    """Emulate a screen of this size, in pixels, and a user's preference for `scheme`, "light" or "dark"."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def run_script(driver: Any, script: str, *arguments: object) -> Any:
    """Return what `script` returns on the open page."""
    return driver.execute_script(script, *arguments)


def wait_on_page(driver: Any, condition: str, *arguments: object) -> None:
    """Return when `condition`, in JavaScript, holds on the open page; fail if that takes absurdly long."""
    wait_until(lambda: run_script(driver, f"return {condition}", *arguments), f"{condition} {arguments}")


def requested_urls(driver: Any) -> list[str]:
    """Return the URLs that the browser has requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
