"""The embedded default model: built on first use, and right on real photos."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Command, command_path

DEFAULT = ("-m", "efficientnet_lite0")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos of things that ImageNet has a name for."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"):
        with resources.as_file(resources.files("skimage") / "data" / name) as photo:
            shutil.copy(photo, folder)
    return folder


@pytest.fixture(scope="module")
def labelled(photos: Path, default_model_cache: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the photos under the default plan."""
    out = tmp_path_factory.mktemp("labelled") / "out.parquet"
    done = subprocess.run(
        [command_path("label-dir"), *DEFAULT, str(photos), str(out)],
        env={**os.environ, **default_model_cache},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_real_photos_are_recognised(labelled: Path) -> None:
    frame = pd.read_parquet(labelled).set_index("file_name")
    best_three = {name: set(row[["label_1", "label_2", "label_3"]]) for name, row in frame.iterrows()}
    assert "tripod" in best_three["camera.png"]
    assert "Egyptian cat" in best_three["chelsea.png"]
    assert "espresso" in best_three["coffee.png"]
    assert "moped" in best_three["motorcycle_left.png"]
    assert "missile" in best_three["rocket.jpg"]
    assert frame["model"].str.fullmatch(r"efficientnet_lite0@[0-9a-f]{12}").all()


def test_int8_rows_are_the_same_to_the_last_bit_for_any_batch_size_processes_and_threads(
    label_dir: Command, photos: Path, labelled: Path, tmp_path: Path, default_model_cache: dict[str, str]
) -> None:
    label_dir(*DEFAULT, "-b", 1, "--pool", 1, "--threads", 2, photos, "other.parquet", env=default_model_cache)
    one, two = (pd.read_parquet(path).drop(columns="labelled_at") for path in (labelled, tmp_path / "other.parquet"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
