"""`label-models teach` through the real command: folders become a model, a report, and a sentence for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.workshop.teaching_files import folder_labels, labelled_files
from jobs.workshop.teaching_photos import decoded
from models.artifact import read_artifact
from models.errors import OutputError
from models.samples import generated_images
from tests.conftest import command_path

# Names that must not act as what they look like: a formula, markup, a path in the making.
LABELS = ("=1+1", "<b>juice", "milk..")
COLOURS = ((200, 40, 40), (40, 180, 60), (60, 80, 210))
MINUTES = 0.1
pytestmark = pytest.mark.timeout(1000)


def write_class(folder: Path, colour: tuple[int, int, int], count: int, seed: int, first: int = 0) -> None:
    """Photos of one tint, each of another scene."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(generated_images(count, 48, seed)):
        tinted = (0.4 * scene + 0.6 * np.array(colour)).astype(np.uint8)
        Image.fromarray(tinted).resize((96, 80)).save(folder / f"{first + index:03d}.png")


def label_models(cache: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("label-models"), *map(str, arguments)],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, subprocess.CompletedProcess[str]]]:
    """A folder with products/ and the report, the cache, and the command that taught "shelf" from them."""
    folder = tmp_path_factory.mktemp("shelf")
    products = folder / "products"
    for number, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        write_class(products / "drinks" / label, colour, 14, number)
    write_class(products / "only one", (128, 128, 128), 1, 50)
    write_class(products / "drinks" / LABELS[0], COLOURS[1], 1, 60, first=90)
    copy = (products / "drinks" / LABELS[0] / "000.png").read_bytes()
    (products / "drinks" / LABELS[2] / "twin.png").write_bytes(copy)
    (products / "drinks" / LABELS[2] / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (products / "loose.png").write_bytes(copy)
    cache = folder / "cache"
    teach = ("teach", products, "--name", "shelf", "--minutes", MINUTES, "--min-agreement", 0)
    yield folder, cache, label_models(cache, *teach, cwd=folder)


def test_folders_become_a_model_that_label_dir_runs(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, cache, taught = shelf
    assert taught.returncode in (0, 3), taught.stderr
    lines = taught.stdout.splitlines()
    assert "photos that were not taught" in lines[0]
    assert "unsure below a probability of" in taught.stdout

    out = tmp_path / "labels.parquet"
    ran = subprocess.run(
        [command_path("label-dir"), "-m", "shelf", folder / "products" / "drinks" / LABELS[1], out],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert set(pq.read_table(out)["label_1"].to_pylist()) <= {*LABELS, "only one"}


def test_the_artifact_says_what_it_was_taught_with_and_scores_familiarity(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    _, cache, _ = shelf
    models = cache / "label-dir" / "models"
    receipt = json.loads((models / "shelf.json").read_text())
    artifact = read_artifact(models / receipt["int8"])
    told = artifact.source["teaching"]
    assert artifact.labels == tuple(sorted([*LABELS, "only one"]))
    assert told["photos_taught"] + told["photos_held_out"] == 45
    assert told["photos_held_out"] >= 3
    assert {"seed", "epochs", "temperature", "min_probability", "min_familiarity", "photos_sha256"} <= set(told)
    session = onnxruntime.InferenceSession(str(models / receipt["int8"]))
    (scores,) = session.run(["familiarity"], {"photos": np.zeros((2, 224, 224, 3), np.uint8)})
    assert scores.shape == (2,)
    assert (np.abs(scores) <= 1.001).all()


def test_the_certificate_rests_on_photos_that_were_not_taught(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    _, cache, _ = shelf
    files = (cache / "label-dir" / "models" / "certificates").glob("shelf-*.json")
    (path,) = (path for path in files if not path.name.endswith("-engines.json"))
    assert "that were not taught" in json.loads(path.read_text())["images"]


def test_the_report_names_broken_loose_doubtful_and_doubled_photos_and_runs_nothing(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _, _ = shelf
    page = (folder / "shelf-teaching.html").read_text(encoding="utf-8")
    assert "broken.jpg" in page
    assert "lies in no folder of a class" in page
    assert "in two classes" in page
    assert "only one (1)" in page
    assert "&lt;b&gt;juice" in page
    assert "<b>juice" not in page
    assert "<script" not in page
    suspects = page.partition('id="suspects"')[2].partition("</section>")[0]
    assert "090.png" in suspects


def test_nothing_of_a_teaching_lies_around_but_the_model(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    _, cache, _ = shelf
    models = cache / "label-dir" / "models"
    receipt = json.loads((models / "shelf.json").read_text())
    files = {path.name for path in models.iterdir() if path.is_file() and path.suffix != ".lock"}
    assert files == {"shelf.json", *(receipt[key] for key in ("int8", "fp32", "state", "calibration"))}


def test_a_few_photos_more_teach_only_the_head_and_a_new_class_is_learnt(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, cache, _ = shelf
    copied = tmp_path / "cache"
    subprocess.run(["cp", "-r", cache, copied], check=True)
    products = tmp_path / "products"
    subprocess.run(["cp", "-r", folder / "products", products], check=True)
    write_class(products / "new", (230, 220, 40), 4, 70)
    again = label_models(
        copied, "teach", products, "--name", "shelf", "--minutes", MINUTES, "--min-agreement", 0, cwd=tmp_path
    )
    assert again.returncode in (0, 3), again.stderr
    models = copied / "label-dir" / "models"
    artifact = read_artifact(models / json.loads((models / "shelf.json").read_text())["int8"])
    assert artifact.source["teaching"]["only_head"] is True
    assert "new" in artifact.labels
    assert "Since it was taught before" in (tmp_path / "shelf-teaching.html").read_text()


def test_a_teaching_that_is_killed_leaves_the_model_as_it_was(
    shelf: tuple[Path, Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, cache, _ = shelf
    copied = tmp_path / "cache"
    subprocess.run(["cp", "-r", cache, copied], check=True)
    models = copied / "label-dir" / "models"
    before = {path.name: path.read_bytes() for path in models.iterdir() if path.is_file()}
    process = subprocess.Popen(
        [command_path("label-models"), "teach", folder / "products", "--name", "shelf", "--fresh", "--minutes", "5"],
        env={**os.environ, "XDG_CACHE_HOME": str(copied)},
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (models / ".shelf.pixels").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (models / ".shelf.pixels").exists()
    time.sleep(3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    after = {path.name: path.read_bytes() for path in models.iterdir() if path.is_file()}
    assert {name: after[name] for name in before} == before
    assert not (tmp_path / "shelf-teaching.html").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (("nowhere", "--name", "x"), 66, "there is no folder nowhere"),
        (("flat", "--name", "x"), 66, "put each class into a folder of its own"),
        (("single", "--name", "x"), 2, "there is one class only"),
        (("flat", "--name", "x", "--labels", "wrong.csv"), 66, "no columns file_name and label"),
        (("single", "--name", "../x"), 2, "is no name for a model"),
        (("single", "--name", "efficientnet_lite0"), 2, "is reserved for its own weights"),
        (("single", "--name", "x", "--minutes", "nan"), 2, "is no number"),
        (("single", "--name", "x", "--precision", "nan"), 2, "is no number"),
        (("single", "--name", "x", "--unknown", "single"), 2, "cannot be both"),
        (("single", "--name", "x", "--report", "mine.html"), 74, "is no report of label-models teach"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], exit_code: int, sentence: str) -> None:
    write_class(tmp_path / "flat", COLOURS[0], 2, 0)
    write_class(tmp_path / "single" / "milk", COLOURS[0], 2, 0)
    (tmp_path / "wrong.csv").write_text("name,class\n")
    (tmp_path / "mine.html").write_text("my diary")
    result = label_models(tmp_path / "cache", "teach", *arguments, cwd=tmp_path)
    assert result.returncode == exit_code, result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "mine.html").read_text() == "my diary"


def test_a_full_disk_is_noticed_before_the_first_photo_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_class(tmp_path / "p" / "milk", COLOURS[0], 1, 0)
    files, broken = labelled_files(tmp_path / "p", None, None, None)

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        decoded(files, broken, tmp_path / "pixels", 32, 1, lambda done, total: None)
    assert not (tmp_path / "pixels").exists()


def test_decoded_photos_lie_in_the_file_without_gaps_where_broken_ones_were(tmp_path: Path) -> None:
    write_class(tmp_path / "p" / "a", COLOURS[0], 2, 0)
    (tmp_path / "p" / "a" / "0005.png").write_bytes(b"broken")
    write_class(tmp_path / "p" / "b", COLOURS[2], 2, 1)
    files, broken = labelled_files(tmp_path / "p", None, None, None)
    found = decoded(files, broken, tmp_path / "pixels", 32, 2, lambda done, total: None)
    assert [one.name for one in found.broken] == ["a/0005.png"]
    reddest = found.photos.pixels(range(4))[..., 0].astype(int).mean(axis=(1, 2))
    bluest = found.photos.pixels(range(4))[..., 2].astype(int).mean(axis=(1, 2))
    assert (reddest > bluest).tolist() == [True, True, False, False]
    assert found.photos.classes.tolist() == [0, 0, 1, 1]


def test_a_label_is_the_folders_name_and_the_way_to_it_where_two_share_it() -> None:
    names = ["a.jpg", "fruit/apple/1.jpg", "juice/apple/1.jpg", "juice/orange/x.jpg"]
    assert folder_labels(names) == {
        "fruit/apple/1.jpg": "fruit/apple",
        "juice/apple/1.jpg": "juice/apple",
        "juice/orange/x.jpg": "orange",
    }
