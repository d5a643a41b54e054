"""The embedded default model: built on first use, and right on real photos."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Command

DEFAULT = ("-m", "efficientnet_lite0")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos of things that ImageNet has a name for."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"):
        with resources.as_file(resources.files("skimage") / "data" / name) as photo:
            shutil.copy(photo, folder)
    return folder


def test_real_photos_are_recognised(
    label_dir: Command, photos: Path, tmp_path: Path, default_model_cache: dict[str, str]
) -> None:
    done = label_dir(*DEFAULT, photos, "out.parquet", env=default_model_cache)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "out.parquet").set_index("file_name")
    best_three = {name: set(row[["label_1", "label_2", "label_3"]]) for name, row in frame.iterrows()}
    assert "tripod" in best_three["camera.png"]
    assert "Egyptian cat" in best_three["chelsea.png"]
    assert "espresso" in best_three["coffee.png"]
    assert "moped" in best_three["motorcycle_left.png"]
    assert "missile" in best_three["rocket.jpg"]
    assert frame["model"].str.fullmatch(r"efficientnet_lite0@[0-9a-f]{12}").all()


def test_int8_ids_do_not_depend_on_batches_processes_or_threads(
    label_dir: Command, photos: Path, tmp_path: Path, default_model_cache: dict[str, str]
) -> None:
    label_dir(*DEFAULT, photos, "one.parquet", env=default_model_cache)
    label_dir(*DEFAULT, "-b", 1, "--pool", 1, "--threads", 2, photos, "two.parquet", env=default_model_cache)
    labels = ["file_name", "label_1", "label_2", "label_3"]
    one, two = (pd.read_parquet(tmp_path / name)[labels] for name in ("one.parquet", "two.parquet"))
    pd.testing.assert_frame_equal(one, two)
