"""What `label-models teach` does with few photos, many classes, other people's photos, Ctrl-C and a failing disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jobs.workshop.teaching import TeachOptions, teach_model
from jobs.workshop.teaching_files import BrokenPhoto, labelled_files
from jobs.workshop.teaching_photos import decoded
from jobs.workshop.teaching_stop import TeachingStop
from models.artifact import Artifact, read_artifact
from models.certification.certify import Terms
from models.errors import StoppedError
from models.manifest import read_manifest
from models.samples import generated_images
from models.teaching.lesson import StepsDone
from pipeline.reviews.decisions import ReviewKind
from pipeline.reviews.review_file import reviews_path
from tests.conftest import Command, command_path, write_photos
from tests.jobs.test_teaching import COLOURS, MINUTES, label_models, write_class
from tests.support.review_kit import review

pytestmark = pytest.mark.timeout(1000)


def write_crops(folder: Path, picture: str, count: int, first: int = 0) -> None:
    """Photos of one thing: parts of a photo that scikit-image ships, each of another place and size."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = Image.fromarray(getattr(skimage.data, picture)())
    random = np.random.default_rng(first)
    for index in range(first, first + count):
        side = int(random.integers(120, 200))
        left, top = (int(random.integers(0, length - side)) for length in whole.size)
        whole.crop((left, top, left + side, top + side)).save(folder / f"{index:03d}.png")


def artifact_of(cache: Path, name: str) -> Artifact:
    models = cache / "label-dir" / "models"
    return read_artifact(models / json.loads((models / f"{name}.json").read_text())["int8"])


def test_two_classes_with_photos_of_neither_and_a_judge_that_was_also_taught(tmp_path: Path) -> None:
    write_crops(tmp_path / "p" / "cat", "chelsea", 12)
    write_crops(tmp_path / "p" / "coffee", "coffee", 12)
    write_crops(tmp_path / "judges" / "cat", "chelsea", 6, first=50)
    write_crops(tmp_path / "judges" / "coffee", "coffee", 6, first=50)
    shutil.copy(tmp_path / "p" / "cat" / "000.png", tmp_path / "judges" / "cat" / "copy.png")
    write_crops(tmp_path / "floors", "rocket", 6)
    arguments = ("--held-out", "judges", "--unknown", "floors", "--qat", "--memory", 500, "--minutes", MINUTES)
    done = label_models(
        tmp_path / "cache", "teach", "p", "--name", "two", *arguments, "--min-agreement", 0, cwd=tmp_path
    )
    assert done.returncode in (0, 3), done.stderr
    told = artifact_of(tmp_path / "cache", "two").source["teaching"]
    assert (told["photos_taught"], told["photos_held_out"], told["photos_unknown"]) == (24, 13, 6)
    assert told["quantization_aware"] is True
    assert told["activations_computed_twice"] is True
    assert "one was taught, the other judges" in (tmp_path / "two-teaching.html").read_text()

    bench = label_models(
        tmp_path / "cache", "bench", "two", "--rounds", 1, "--engine", "onnxruntime", "--engine", "torch", cwd=tmp_path
    )
    assert bench.returncode == 0, bench.stderr
    assert {line.split()[0] for line in bench.stdout.splitlines()[1:]} == {"onnxruntime", "torch"}


def test_one_photo_for_each_class_makes_a_model_of_unknown_accuracy(tmp_path: Path) -> None:
    write_crops(tmp_path / "p" / "cat", "chelsea", 1)
    write_crops(tmp_path / "p" / "coffee", "coffee", 1)
    done = label_models(tmp_path / "cache", "teach", "p", "--name", "one", "--minutes", MINUTES, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert "accuracy unknown" in done.stdout
    assert artifact_of(tmp_path / "cache", "one").labels == ("cat", "coffee")


@pytest.mark.faults
def test_five_hundred_classes_become_one_model(tmp_path: Path) -> None:
    for index, picture in enumerate(generated_images(500, 48, 1)):
        folder = tmp_path / "p" / f"kind {index}"
        folder.mkdir(parents=True)
        Image.fromarray(picture).save(folder / "only.png")
    done = label_models(tmp_path / "cache", "teach", "p", "--name", "many", "--minutes", MINUTES, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert len(artifact_of(tmp_path / "cache", "many").labels) == 500
    assert "kind 499" in (tmp_path / "many-teaching.html").read_text()


def test_without_torch_the_command_says_in_a_sentence_what_to_install(tmp_path: Path) -> None:
    write_class(tmp_path / "p" / "milk", COLOURS[0], 1, 0)
    script = (
        "import sys; sys.modules['torch'] = None; from jobs.label_models import main;"
        "sys.argv = ['label-models', 'teach', 'p', '--name', 'x']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 66
    assert "teaching needs torch, not installed here: pip install" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@dataclass
class _Signals:
    """Stands for the signals of a process: `number` is the first that came."""

    number: int = 0

    def requested(self) -> int:
        return self.number


def _teach_until(folder: Path, least_done: float | None) -> None:
    """Teach "shelf", and ask for a stop when so much of the training is done; before the first photo where None."""
    signals = _Signals(signal.SIGINT if least_done is None else 0)

    def notify(text: str) -> None:
        if least_done is not None and isinstance(text, StepsDone) and text.has_learnt and text.done >= least_done:
            signals.number = signal.SIGINT

    options = TeachOptions(folder / "p", "shelf", "efficientnet_lite0", 5, 0, 0.95, Terms(required_agreement=0))
    teach_model(options, notify, lambda done, total: None, TeachingStop(signals))


def test_a_stop_during_training_keeps_what_was_learnt_and_one_before_it_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_crops(tmp_path / "p" / "cat", "chelsea", 16)
    write_crops(tmp_path / "p" / "coffee", "coffee", 16)
    with pytest.raises(StoppedError, match="nothing new is kept"):
        _teach_until(tmp_path, None)
    assert read_manifest("shelf") is None

    _teach_until(tmp_path, 0.1)
    manifest = read_manifest("shelf")
    assert manifest is not None
    models = tmp_path / "cache" / "label-dir" / "models"
    assert 1 <= read_artifact(models / manifest.int8).source["teaching"]["epochs"] < 60
    assert {path.name for path in models.iterdir() if path.is_file() and path.suffix != ".lock"} == {
        "shelf.json",
        *manifest.files,
    }


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_photos_are_read_leaves_nothing(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    write_class(tmp_path / "p" / "milk", COLOURS[0], 200, 0)
    write_class(tmp_path / "p" / "juice", COLOURS[1], 200, 1)
    models = tmp_path / "cache" / "label-dir" / "models"
    process = subprocess.Popen(
        [command_path("label-models"), "teach", "p", "--name", "shelf"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (models / ".shelf.pixels").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == exit_code, stderr
    assert "nothing" in stderr.splitlines()[-1]
    assert {path.name for path in models.iterdir() if path.is_file()} <= {".shelf.lock", "shelf.lock"}
    assert not (tmp_path / "shelf-teaching.html").exists()


def test_reviews_teach_what_persons_confirmed_and_nothing_else(label_dir: Command, tmp_path: Path) -> None:
    photos, table = tmp_path / "photos", tmp_path / "out.parquet"
    first, second, third, gone, changed, _ = sorted(write_photos(photos, 6))
    assert label_dir("photos", "out.parquet").returncode == 0
    for name, label in ((first, "cat"), (second, "coffee"), (gone, "cat"), (changed, "cat")):
        review(table, photos / name, label)
    review(table, photos / third, None, kind=ReviewKind.UNKNOWN)
    (photos / gone).unlink()
    Image.new("RGB", (50, 50), (1, 2, 3)).save(photos / changed)

    files, broken = labelled_files(photos, None, None, None, reviews_path(table))
    assert {file.ref.name: file.label for file in files} == {first: "cat", second: "coffee", changed: "cat"}
    assert [(one.name, one.reason) for one in broken] == [(gone, "is gone since it was reviewed")]
    found = decoded(files, broken, tmp_path / "pixels", 32, 1, lambda done, total: None)
    assert found.photos.names == (first, second)
    assert BrokenPhoto(changed, "has changed since it was reviewed") in found.broken

    write_class(tmp_path / "products" / "coffee", COLOURS[0], 2, 0)
    files, _ = labelled_files(tmp_path / "products", None, None, None, reviews_path(table))
    assert sorted(str(file.label) for file in files) == ["cat", "cat", "coffee", "coffee", "coffee"]
