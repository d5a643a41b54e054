"""`label-models export`: one file takes a certified model to a machine without torch."""

from __future__ import annotations

import json
import os
import subprocess
from configparser import ConfigParser
from pathlib import Path

import onnxruntime
import pytest

from models.artifact import read_artifact, with_certificate
from models.cache import ensure_artifact
from tests.conftest import command_path, write_photos

# An environment in which the packages of a full installation cannot be found.
WITHOUT_TORCH = """
import importlib.util
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
found = importlib.util.find_spec

def find_spec(name, package=None):
    try:
        return found(name, package)
    except ModuleNotFoundError:
        return None

importlib.util.find_spec = find_spec
"""


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return a finished command of this project."""
    name, *arguments = map(str, command)
    return subprocess.run(
        [command_path(name), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, default_model_cache: dict[str, str]) -> Path:
    """The default model, exported."""
    file = tmp_path_factory.mktemp("exported") / "lite0.onnx"
    done = run("label-models", "export", "efficientnet_lite0", file, **default_model_cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{file}: efficientnet_lite0@")
    return file


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """An environment without torch and onnx, and with an empty cache."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT_TORCH)
    return {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_an_exported_model_labels_without_torch_what_its_name_labels_with_torch(
    exported: Path, runner: dict[str, str], default_model_cache: dict[str, str], tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 12)
    by_name = run("label-dir", tmp_path / "photos", tmp_path / "labels.csv", **default_model_cache)
    assert by_name.returncode == 0
    by_file = run("label-dir", "-m", exported, tmp_path / "photos", tmp_path / "runner.csv", **runner)
    assert by_file.returncode == 0, by_file.stderr
    tables = [
        [line.rpartition(",")[0] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("labels.csv", "runner.csv")
    ]
    assert tables[0] == tables[1]
    again = run("label-dir", "-m", exported, tmp_path / "photos", tmp_path / "labels.csv", **runner)
    assert "0 labelled, 12 unchanged" in again.stderr


def test_an_exported_model_is_certified_once_by_its_terms_and_this_cpus_arithmetic(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    notices: list[str] = []
    artifact = ensure_artifact(str(exported), notices.append)
    agreement = json.loads(artifact.certificate)["top1_agreement"]
    assert notices == [
        f"{exported} is certified on this CPU: its arithmetic is exact, so that the agreement of {agreement:.1%} on "
        "200 photos kept out of calibration when it was built, measured before the export, holds here"
    ]
    ensure_artifact(str(exported), notices.append)
    assert len(notices) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"top1_agreement": 0.5}, "is not certified: agreement 50.0% is below 97.0%"),
        ({"model_id": "another@0123456789ab"}, "the agreement of its labels with fp32 was not"),
        ({"top1_agreement": 7}, "the agreement of its labels with fp32 was not"),
    ],
)
def test_terms_that_do_not_hold_for_this_file_are_reported_at_each_run(
    change: dict[str, object], expected: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    artifact = read_artifact(exported)
    terms = {**json.loads(artifact.certificate), **change}
    plain = exported.read_bytes().removesuffix(with_certificate(b"", artifact.certificate))
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(with_certificate(plain, json.dumps(terms)))
    notices: list[str] = []
    for _ in range(2):
        assert ensure_artifact(str(changed), notices.append).sha256 == artifact.sha256
    assert len(notices) == 2
    assert all(expected in notice for notice in notices)


def test_the_terms_are_no_part_of_the_models_id_and_every_other_byte_is(exported: Path, tmp_path: Path) -> None:
    artifact = read_artifact(exported)
    content = exported.read_bytes()
    plain = content.removesuffix(with_certificate(b"", artifact.certificate))
    assert len(plain) < len(content)
    other = tmp_path / "other.onnx"
    for changed, is_same in ((plain, True), (plain + b"\x08\x0a", False), (content + b"\x08\x0a", False)):
        other.write_bytes(changed)
        assert (read_artifact(other).sha256 == artifact.sha256) is is_same
    metadata = onnxruntime.InferenceSession(exported).get_modelmeta().custom_metadata_map
    assert metadata["certificate"] == artifact.certificate


def test_an_export_replaces_a_model_and_nothing_else(
    exported: Path, default_model_cache: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "old.onnx").write_bytes(exported.read_bytes())
    (tmp_path / "mine.onnx").write_text("mine")
    codes = [
        run("label-models", "export", "efficientnet_lite0", tmp_path / name, **default_model_cache).returncode
        for name in ("old.onnx", "mine.onnx", "model.bin")
    ]
    assert codes == [0, 74, 2]
    assert (tmp_path / "mine.onnx").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        ("label-dir", "PHOTOS", "OUT"),
        ("label-dir", "-m", "MODEL", "--loader", "torch", "PHOTOS", "OUT"),
        ("label-dir", "--engine", "torch", "PHOTOS", "OUT"),
        ("label-models", "build", "resnet18"),
        ("label-models", "certify", "efficientnet_lite0"),
        ("label-models", "bench", "efficientnet_lite0"),
        ("label-models", "teach", "PHOTOS", "--name", "shelf"),
        ("label-models", "list", "--all"),
    ],
    ids=" ".join,
)
def test_without_torch_whatever_needs_it_says_so_in_one_sentence(
    command: tuple[str, ...], exported: Path, runner: dict[str, str], tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 2)
    places = {"PHOTOS": tmp_path / "photos", "OUT": tmp_path / "labels.csv", "MODEL": exported}
    done = run(*(places.get(word, word) for word in command), **runner)
    lines = [line for line in done.stderr.splitlines() if "is certified on this CPU" not in line]
    assert done.returncode == 66, done.stderr
    assert len(lines) == 1, done.stderr
    assert "torch" in lines[0]
    assert "pip install 'label-dir[build]'" in lines[0]


def test_a_runner_lists_the_models_of_its_cache(runner: dict[str, str]) -> None:
    done = run("label-models", "list", **runner)
    assert done.returncode == 0, done.stderr
    assert "efficientnet_lite0" in done.stdout


def test_the_extra_names_no_package_that_a_plain_installation_lacks() -> None:
    configuration = ConfigParser()
    configuration.read(Path(__file__).parents[2] / "setup.cfg")
    extra, plain = configuration["options.extras_require"]["build"], configuration["options"]["install_requires"]
    assert "torch>=" in extra
    assert set(extra.split()) <= set(plain.split())
