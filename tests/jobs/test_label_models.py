"""`label-models` through the real command: own heads, imports, certificates, and one sentence for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from models.build_steps import Origin, prepare_network
from models.errors import LabelDirError
from models.networks.efficientnet_lite import efficientnet_lite
from models.networks.onnx_import import ImportRequest, imported_network
from models.networks.onnx_model import network_model
from models.samples import generated_images
from tests.conftest import command_path
from tests.support.networks import CLASSES, LABELS, MIDDLE, SIDE, small_network

UNREACHABLE = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


def label_models(
    cache: Path, *arguments: object, command: str = "label-models", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command with `cache` as the folder of built models."""
    return subprocess.run(
        [command_path(command), *map(str, arguments)],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def built_files(cache: Path) -> list[str]:
    """Return the names of the files in the cache, without locks."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few generated photos."""
    folder = tmp_path_factory.mktemp("photos")
    for index, pixels in enumerate(generated_images(8, 64, 4)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("\n".join(f"thing {index}" for index in range(CLASSES)) + "\n")
    return tmp_path / "labels.txt"


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    onnx.save(foreign_model(), tmp_path / "my.onnx")
    return tmp_path / "my.onnx"


def foreign_model() -> onnx.ModelProto:
    """A classifier as another exporter may write it."""
    model = network_model(small_network().graph, [])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES]))
    return model


@pytest.mark.timeout(1000)
def test_a_users_own_head_is_built_and_labels_photos_with_its_own_labels(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    module = efficientnet_lite("efficientnet_lite0", classes=3)
    wrapped = {f"module.{name}": value for name, value in module.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 7}, tmp_path / "shelf.pth")
    (tmp_path / "shelf.txt").write_text("milk\njuice\nyoghurt\n")
    weights = ["--weights", tmp_path / "shelf.pth", "--labels", tmp_path / "shelf.txt", "--name", "shelf"]
    terms = ["--calibrate", photos, "--samples", 4, "--min-agreement", 0]
    built = label_models(tmp_path / "cache", "build", "efficientnet_lite0", *weights, *terms)
    assert built.returncode in (0, 3), built.stderr
    assert f"4 photos of {photos.name} kept out of calibration" in built.stdout

    out = tmp_path / "out.parquet"
    ran = label_models(tmp_path / "cache", "-m", "shelf", photos, out, command="label-dir")
    assert ran.returncode == 0, ran.stderr
    table = pq.read_table(out)
    assert table.num_rows == 8
    assert set(table["label_1"].to_pylist()) <= {"milk", "juice", "yoghurt"}
    assert {str(one).partition("@")[0] for one in table["model"].to_pylist()} == {"shelf"}

    listed = label_models(tmp_path / "cache", "list")
    assert [line.split()[:2] for line in listed.stdout.splitlines() if line.startswith("shelf")] == [["shelf", "3"]]
    assert not list((tmp_path / "cache").rglob("*onnxruntime.db")), "onnxruntime has written its telemetry database"


def test_an_imported_onnx_file_becomes_a_model_that_plain_onnxruntime_runs(
    tmp_path: Path, onnx_file: Path, labels: Path, photos: Path
) -> None:
    cache = tmp_path / "cache"
    scaled = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--min-agreement", 0]
    more = ["--name", "mine", "--labels", labels, "--input", SIDE, "--calibrate", photos]
    result = label_models(cache, "import", onnx_file, *more, *scaled)
    assert result.returncode in (0, 3), result.stderr
    receipt = json.loads((cache / "label-dir/models/mine.json").read_text())
    for name in (receipt["int8"], receipt["fp32"]):
        session = onnxruntime.InferenceSession(str(cache / "label-dir/models" / name))
        told = session.get_modelmeta().custom_metadata_map
        assert json.loads(told["labels"]) == [f"thing {index}" for index in range(CLASSES)]
        assert json.loads(told["preprocessing"])["mean"] == [127.5, 127.5, 127.5]
        probabilities, ids = session.run(["probabilities", "ids"], {"photos": np.zeros((2, SIDE, SIDE, 3), np.uint8)})
        assert probabilities.shape == ids.shape == (2, 3)


def broken_onnx(tmp_path: Path, kind: str) -> Path:
    model = foreign_model()
    path = tmp_path / f"{kind}.onnx"
    if kind == "external":
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        return path
    if kind == "custom":
        model.graph.node[0].domain = "my.company"
    if kind == "two outputs":
        model.graph.output.append(helper.make_tensor_value_info("conv_000", TensorProto.FLOAT, ["n", 16, 16, 16]))
    content = model.SerializeToString()
    path.write_bytes(content[: len(content) // 2] if kind == "truncated" else content)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("external", "keeps tensors in other files"),
        ("custom", r"operators that are not ONNX's own: my\.company\.Conv"),
        ("two outputs", "1 inputs and 2 outputs"),
        ("truncated", "damaged or no ONNX file"),
    ],
)
def test_an_onnx_file_that_cannot_be_imported_is_refused_in_one_sentence(tmp_path: Path, kind: str, told: str) -> None:
    with pytest.raises(LabelDirError, match=told) as raised:
        imported_network(ImportRequest(broken_onnx(tmp_path, kind), "x", MIDDLE, LABELS))
    assert raised.value.exit_code == 66
    assert "\n" not in str(raised.value)


def test_an_imported_network_gives_the_same_scores_as_its_file(onnx_file: Path) -> None:
    network = imported_network(ImportRequest(onnx_file, "x", MIDDLE, LABELS))
    photo = np.random.default_rng(1).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    own = onnxruntime.InferenceSession(network_model(network.graph, []).SerializeToString())
    theirs = onnxruntime.InferenceSession(str(onnx_file))
    np.testing.assert_allclose(own.run(None, {"input": photo})[0], theirs.run(None, {"input": photo})[0], atol=1e-4)


@pytest.mark.parametrize(
    ("case", "exit_code", "told"),
    [
        ("unknown", 2, "did you mean resnet18"),
        ("truncated", 66, "truncated, damaged or no file"),
        ("too many labels", 2, "there are 3 labels"),
        ("no weights", 66, "put resnet18-f37072fd.pth into"),
        ("another hash", 66, "are damaged or another version: sha256"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_in_one_sentence_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, exit_code: int, told: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    for name, value in UNREACHABLE.items():
        monkeypatch.setenv(name, value)
    weights = tmp_path / "w.pth"
    torch.save(efficientnet_lite("efficientnet_lite0", classes=2).state_dict(), weights)
    if case == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    if case == "another hash":
        published = tmp_path / "hub/hub/checkpoints/resnet18-f37072fd.pth"
        published.parent.mkdir(parents=True)
        published.write_bytes(b"something else")
    origins = {
        "unknown": Origin("x", "resnt18"),
        "truncated": Origin("x", "efficientnet_lite0", weights, ("a", "b")),
        "too many labels": Origin("x", "efficientnet_lite0", weights, ("a", "b", "c")),
    }
    folder = tmp_path / "models"
    with pytest.raises(LabelDirError, match=told) as raised:
        prepare_network(print, origins.get(case, Origin("resnet18", "resnet18")), folder)
    assert raised.value.exit_code == exit_code
    assert "\n" not in str(raised.value)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("case", "exit_code", "told"),
    [
        ("labels twice", 2, "have 'a' twice, on lines 1 and 2"),
        ("no photos", 66, "there are no photos in"),
        ("all photos broken", 66, "none of the 1 photos in"),
        ("unknown", 2, "did you mean"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused_in_one_line_and_leaves_no_model(
    tmp_path: Path, case: str, exit_code: int, told: str
) -> None:
    (tmp_path / "twice.txt").write_text("a\na\n")
    (tmp_path / "folder").mkdir()
    if case == "all photos broken":
        (tmp_path / "folder/photo.jpg").write_text("no photo")
    arguments: dict[str, list[object]] = {
        "labels twice": ["efficientnet_lite0", "--weights", "w.pth", "--labels", tmp_path / "twice.txt"],
        "unknown": ["efficientnet_lit0"],
    }
    given = arguments.get(case, ["efficientnet_lite0", "--calibrate", tmp_path / "folder"])
    result = label_models(tmp_path / "cache", "build", *given)
    assert result.returncode == exit_code, result.stderr
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert built_files(tmp_path / "cache") == []


def test_help_has_examples() -> None:
    for verb in ("list", "build", "import", "certify", "bench"):
        result = subprocess.run([command_path("label-models"), verb, "-h"], capture_output=True, text=True, check=True)
        assert f"label-models {verb}" in result.stdout.partition("Examples:")[2]


def test_a_refused_model_runs_in_fp32_with_a_warning(default_model_cache: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    subprocess.run(["cp", "-r", default_model_cache["XDG_CACHE_HOME"], cache], check=True)
    certificate = next(
        path for path in (cache / "label-dir/models/certificates").iterdir() if "-engines" not in path.name
    )
    document = json.loads(certificate.read_text())
    certificate.write_text(json.dumps({**document, "top1_agreement": 0.5}))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (300, 300), (200, 30, 30)).save(tmp_path / "photos/red.png")
    result = label_models(cache, tmp_path / "photos", tmp_path / "out.parquet", command="label-dir")
    assert result.returncode == 0
    assert "running efficientnet_lite0 in fp32" in result.stderr
    receipt = json.loads((cache / "label-dir/models/efficientnet_lite0.json").read_text())
    digest = receipt["fp32"].removesuffix(".onnx").rpartition("-")[2]
    assert pq.read_table(tmp_path / "out.parquet")["model"].to_pylist() == [f"efficientnet_lite0@{digest}"]
