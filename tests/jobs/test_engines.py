"""Another engine is part of what a row says of its model, in every command that labels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact
from tests.conftest import Command, command_path, write_photos
from tests.support.job_helpers import run_job, write_job


def models_in(table: Path) -> set[str]:
    """Return what the rows of a table say of their models."""
    return set(pd.read_parquet(table)["model"])


def test_a_table_of_one_engine_is_labelled_again_by_another_and_never_mixed(
    label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    expected = write_photos(tmp_path / "photos", 20)
    out = tmp_path / "out.parquet"
    assert label_dir("photos", out).returncode == 0
    assert models_in(out) == {tiny_model.model_id}
    again = label_dir("--engine", "openvino", "photos", out)
    assert "20 labelled" in again.stderr
    assert models_in(out) == {f"{tiny_model.model_id}+openvino"}
    frame = pd.read_parquet(out)
    assert dict(zip(frame["file_name"], frame["label_1"], strict=True)) == expected
    kept = label_dir("--engine", "openvino", "photos", out)
    assert "20 unchanged" in kept.stderr
    write_photos(tmp_path / "photos/more", 3)
    assert "23 labelled" in label_dir("photos", out).stderr
    assert models_in(out) == {tiny_model.model_id}


def test_watch_folder_and_jobs_run_an_engine_too(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    watch = [
        command_path("watch-folder"),
        "-m",
        str(tiny_model.path),
        "--engine",
        "openvino",
        "--once",
        "--settle",
        "0s",
    ]
    done = subprocess.run(
        [*watch, tmp_path / "photos", tmp_path / "labels"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (part,) = (tmp_path / "labels").rglob("*.parquet")
    assert set(pq.read_table(part, columns=["model"])["model"].to_pylist()) == {f"{tiny_model.model_id}+openvino"}
    lines = f'photos = "{tmp_path}/photos"\noutput = "{tmp_path}/job.parquet"\nengine = "openvino"'
    assert run_job(write_job(tmp_path, tiny_model.path, {"photos": lines})).returncode == 0
    assert models_in(tmp_path / "job.parquet") == {f"{tiny_model.model_id}+openvino"}


@pytest.fixture
def cache(default_model_cache: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a copy of the cache with the default model, in whose figures openvino is 1.1 times as fast."""
    shutil.copytree(default_model_cache["XDG_CACHE_HOME"], tmp_path / "cache")
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_auto_labels_by_the_engine_that_is_fastest_by_the_kept_figures_until_they_change(
    label_dir: Command, cache: dict[str, str], tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 4)
    arguments = ("-m", "efficientnet_lite0", "--engine", "auto", "photos", tmp_path / "out.parquet")
    done = label_dir(*arguments, env=cache)
    assert done.returncode == 0, done.stderr
    (model,) = models_in(tmp_path / "out.parquet")
    assert model.endswith("+openvino")
    (survey,) = (tmp_path / "cache/label-dir/models/certificates").glob("*-engines.json")
    figures = json.loads(survey.read_text())
    for engine in figures["engines"]:
        engine["images_per_s"] = 200.0
    survey.write_text(json.dumps(figures))
    assert "4 labelled" in label_dir(*arguments, env=cache).stderr
    assert models_in(tmp_path / "out.parquet") == {model.removesuffix("+openvino")}


def test_list_shows_the_engine_that_auto_runs(cache: dict[str, str]) -> None:
    listed = subprocess.run(
        [command_path("label-models"), "list"], env={**os.environ, **cache}, capture_output=True, text=True, check=True
    )
    (line,) = (line for line in listed.stdout.splitlines() if line.startswith("efficientnet_lite0"))
    assert "openvino (1.10x)" in line


def test_an_engine_that_does_not_exist_is_a_usage_error_that_names_the_engines(
    label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 1)
    refused = label_dir("--engine", "fastest", "photos", tmp_path / "out.parquet")
    assert refused.returncode == 2
    assert "there is no engine called fastest; the engines are auto, onnxruntime" in refused.stderr
