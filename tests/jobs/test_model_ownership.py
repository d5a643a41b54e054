"""What a model's name promises: no other weights under a name of label-dir's own, no file of another model removed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import pytest

from jobs.workshop.building import _removing_leftovers, import_onnx
from jobs.workshop.options import QuantizationOptions
from jobs.workshop.verbs.restore import restore_previous
from models.artifact import metadata_of
from models.cache import ensure_artifact
from models.errors import InputMissingError, LabelDirError, UsageError
from models.manifest import (
    Manifest,
    built_models,
    cache_folder,
    checked_name,
    read_manifest,
    replace_model,
    write_manifest,
)
from models.networks.onnx_import import ImportRequest
from tests.jobs.test_label_models import foreign_model, label_models
from tests.support.networks import CLASSES, LABELS, MIDDLE, SIDE
from tests.support.tiny_model import write_tiny_model

DIGEST = "0123456789ab"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of built models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache_folder()
    folder.mkdir(parents=True)
    return folder


def manifest_of(name: str) -> Manifest:
    return Manifest(
        "",
        f"{name}-int8-{DIGEST}.onnx",
        f"{name}-fp32-{DIGEST}.onnx",
        f"{name}-torch-{DIGEST}.pt",
        f"{name}-calibration-{DIGEST}.json",
    )


def write_model(folder: Path, name: str) -> set[str]:
    """Write a manifest and the files that it names; return the names of all of them."""
    manifest = manifest_of(name)
    for file in manifest.files:
        (folder / file).write_text("content")
    write_manifest(name, manifest)
    return {*manifest.files, f"{name}.json"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "efficientnet_lite0", "--random-weights"],
        ["build", "resnet18", "--random-weights", "--name", "efficientnet_lite1"],
        ["build", "resnet18", "--random-weights"],
        ["build", "efficientnet_lite0", "--weights", "own.pth"],
        ["import", "efficientnet_lite0.onnx"],
        ["teach", ".", "--name", "efficientnet_lite2"],
    ],
)
def test_case_4_the_names_of_the_zoo_keep_their_own_weights(tmp_path: Path, arguments: list[str]) -> None:
    onnx.save(foreign_model(), tmp_path / "efficientnet_lite0.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(f"thing {index}" for index in range(CLASSES)) + "\n")
    if arguments[0] == "import":
        scale = ["--input", str(SIDE), "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
        arguments = ["import", str(tmp_path / arguments[1]), "--labels", str(tmp_path / "labels.txt"), *scale]
    result = label_models(tmp_path / "cache", *arguments)
    assert result.returncode == 2, result.stderr
    assert "--name" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("*.json"))


def write_artifact_of(folder: Path, name: str, source: dict[str, str]) -> None:
    """Put a complete model with this source into the cache."""
    tiny = write_tiny_model(folder / "tiny.onnx")
    model = onnx.load(tiny.path)
    files = {}
    for precision in ("int8", "fp32"):
        entries = {**metadata_of(tiny), "name": name, "precision": precision, "source": json.dumps(source)}
        onnx.helper.set_model_props(model, entries)
        onnx.save(model, folder / "new.onnx")
        digest = hashlib.sha256((folder / "new.onnx").read_bytes()).hexdigest()[:12]
        files[precision] = f"{name}-{precision}-{digest}.onnx"
        (folder / "new.onnx").rename(folder / files[precision])
    tiny.path.unlink()
    write_manifest(name, Manifest("", files["int8"], files["fp32"], "", ""))


def current(name: str) -> Manifest:
    manifest = read_manifest(name)
    assert manifest is not None
    return replace(manifest, previous=None)


def test_case_4_a_replaced_model_is_reported_and_kept_until_it_is_wanted_back(tmp_path: Path, cache: Path) -> None:
    onnx.save(foreign_model(), tmp_path / "my.onnx")
    request = ImportRequest(tmp_path / "my.onnx", "shelf", MIDDLE, LABELS)
    write_artifact_of(cache, "shelf", {"weights": "mine", "weights_sha256": "0" * 64})
    old, notices = current("shelf"), list[str]()
    import_onnx(request, QuantizationOptions(min_agreement=0.0), notices.append)
    new = current("shelf")
    assert new.int8 != old.int8
    assert f"the shelf built before ({old.int8}) is kept: label-models restore shelf exchanges the two" in notices
    restored = label_models(tmp_path / "cache", "restore", "shelf")
    assert (restored.returncode, restored.stdout.split()[:2]) == (0, ["shelf", "is"])
    assert current("shelf") == old
    assert restore_previous("shelf", print).path.name == new.int8
    assert {path.name for path in cache.glob("shelf-*")} == old.files | new.files


def test_case_4_one_model_before_the_last_build_is_kept_and_no_more(cache: Path) -> None:
    for number in range(3):
        files = [f"shelf-{kind}-{number:012x}.onnx" for kind in ("int8", "fp32")]
        for file in files:
            (cache / file).write_text(f"content {number}")
        replace_model("shelf", Manifest("", files[0], files[1], "", ""))
    assert {path.name[-6:-5] for path in cache.glob("shelf-*")} == {"1", "2"}


@pytest.mark.parametrize("damage", ["nothing", "missing", "damaged"])
def test_case_4_a_model_that_is_not_whole_is_not_brought_back(tmp_path: Path, cache: Path, damage: str) -> None:
    write_artifact_of(cache, "shelf", {"weights": "mine", "weights_sha256": "0" * 64})
    old = current("shelf")
    if damage != "nothing":
        replace_model("shelf", manifest_of("shelf"))
        (cache / old.fp32).unlink() if damage == "missing" else (cache / old.fp32).write_bytes(b"damaged")
    before = read_manifest("shelf")
    result = label_models(tmp_path / "cache", "restore", "shelf")
    assert result.returncode == 66, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert read_manifest("shelf") == before


def test_case_4_random_weights_label_photos_only_under_a_name_that_says_random(cache: Path) -> None:
    write_artifact_of(cache, "resnet18", {"weights": "random", "weights_sha256": "random 20"})
    with pytest.raises(InputMissingError, match="has random weights, which label photos with noise"):
        ensure_artifact("resnet18", print)


def test_case_4_a_default_model_with_other_weights_is_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_artifact_of(cache, "efficientnet_lite0", {"weights": "random", "weights_sha256": "random 20"})

    class BuildBeganError(Exception):
        pass

    def notify(sentence: str) -> None:
        assert "has other weights than its own: building it" in sentence
        raise BuildBeganError

    with pytest.raises(BuildBeganError):
        ensure_artifact("efficientnet_lite0", notify)


def test_case_5_a_build_of_shelf_leaves_the_files_of_shelf_2_alone(cache: Path) -> None:
    with pytest.raises(RuntimeError), _removing_leftovers("shelf"):
        finished = write_model(cache, "shelf-2") | write_model(cache, "shelf-int8")
        (cache / f"shelf-int8-{DIGEST}.onnx").write_text("left over")
        raise RuntimeError
    assert {path.name for path in cache.iterdir()} == finished
    assert built_models() == ["shelf-2", "shelf-int8"]


def test_case_5_a_manifest_that_names_a_foreign_file_removes_nothing(cache: Path) -> None:
    foreign = cache.parent / "foreign.onnx"
    foreign.write_text("foreign")
    finished = write_model(cache, "shelf-2")
    for named in ("../foreign.onnx", f"shelf-2-int8-{DIGEST}.onnx"):
        old = {**asdict(manifest_of("shelf")), "int8": named}
        (cache / "shelf.json").write_text(json.dumps(old))
        write_manifest("shelf", manifest_of("shelf"))
    assert foreign.read_text() == "foreign"
    assert all((cache / name).is_file() for name in finished)


@pytest.mark.parametrize(
    "name", ["x.onnx", "X.ONNX", "-rf", "../x", ".x", "", "a/b", "n" * 300, f"s-calibration-{DIGEST}"]
)
def test_a_name_that_reads_as_a_file_an_option_or_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no name for a model") as raised:
        checked_name(name)
    assert "\n" not in str(raised.value)
    result = (
        label_models(tmp_path, "build", "resnet18", f"--name={name}", "--random-weights") if name == "-rf" else None
    )
    assert result is None or result.returncode == 2


def test_case_16_a_models_name_is_never_a_path(tmp_path: Path, cache: Path) -> None:
    tiny = write_tiny_model(tmp_path / "tiny.onnx")
    model = onnx.load(tiny.path)
    for name in ("../../outside", "/etc/outside", "n" * 300, "new\nline"):
        onnx.helper.set_model_props(model, {**metadata_of(tiny), "name": name, "precision": "int8"})
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(LabelDirError, match="its name") as raised:
            ensure_artifact(str(tmp_path / "odd.onnx"), print)
        assert raised.value.exit_code == 66
        assert "\n" not in str(raised.value)
    assert list(cache.iterdir()) == []
    assert read_manifest("../../outside") is None
