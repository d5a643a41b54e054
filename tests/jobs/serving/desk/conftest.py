"""The desk of 30 labelled photos, one of a hostile name, open in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.artifact import Artifact
from tests.conftest import run_label_dir, write_photos
from tests.support.chromium import desktop_chromium
from tests.support.desk_page import wait_for_photo
from tests.support.desk_process import DeskServe

HOSTILE_NAME = "\"><img src=x onerror=document.title=1> & {{7*7}}'.png"


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
    wait_for_photo(driver)
    yield driver
    # The browser reports an answer of 409, which is how a conflict is told.
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [message for message in errors if "409" not in message] == []
    driver.get("about:blank")
