"""Shared by all tests: a tiny model, tiny photos, and the real command in a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from PIL import Image

from models.artifact import Artifact
from tests.faults.table import pytest_terminal_summary as pytest_terminal_summary
from tests.support.small_disk import mounted_disk
from tests.support.tiny_model import COLOURS, write_tiny_model

if TYPE_CHECKING:
    from tests.support.object_store import FaultProxy

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A model that tells colours apart, written within milliseconds."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def write_photos(folder: Path, count: int, suffix: str = ".png") -> dict[str, str]:
    """Return the label that each of `count` new one-coloured photos must get; no two have the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = list(COLOURS.items())
    expected: dict[str, str] = {}
    for index in range(count):
        label, colour = colours[index % len(colours)]
        photo = Image.new("RGB", (40, 33), colour)
        photo.putpixel((index % 40, index // 40 % 33), (index % 251, index // 251 % 251, 7))
        name = f"{index:05d}-{label}{suffix}"
        photo.save(folder / name)
        expected[name] = label
    return expected


def command_path(name: str) -> str:
    """Return the path of an installed command of this project, beside the interpreter that runs the tests."""
    return str(Path(sys.executable).parent / name)


def run_label_dir(model: Artifact, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Return a finished `label-dir` with `model`; `options` as for `subprocess.run`."""
    command = [command_path("label-dir"), "-m", str(model.path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, **options)


@pytest.fixture
def label_dir(tiny_model: Artifact, tmp_path: Path) -> Command:
    """A function that runs `label-dir`, with the tiny model unless another is named, and returns the process."""

    def run_command(
        *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        model = [] if "-m" in arguments or "--model" in arguments else ["-m", str(tiny_model.path)]
        return subprocess.run(
            [command_path("label-dir"), *model, *map(str, arguments)],
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run_command


@pytest.fixture(scope="session")
def default_model_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a cache folder in which the default model is built and certified, once for all tests.

    The speeds in its certificate are made up, so that no test depends on how busy the machine was.
    """
    session = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own inside the folder of the session.
    cache = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "default-model-cache"
    environment = {"XDG_CACHE_HOME": str(cache)}
    with FileLock(f"{cache}.lock"):
        if not cache.exists():
            _build_default_model(cache.with_suffix(".new"))
            cache.with_suffix(".new").rename(cache)
    return environment


def _build_default_model(cache: Path) -> None:
    program = "from models.cache import ensure_artifact; ensure_artifact('efficientnet_lite0', print)"
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
    certificates = cache / "label-dir/models/certificates"
    certificate = next(certificates.glob("*-onnxruntime-*.json"))
    speeds = {"int8_images_per_s": 200.0, "fp32_images_per_s": 100.0}
    certificate.write_text(json.dumps({**json.loads(certificate.read_text()), **speeds}))
    survey_path = next(certificates.glob("*-engines.json"))
    survey = json.loads(survey_path.read_text())
    for figures in survey["engines"]:
        figures["images_per_s"] = 220.0 if figures["engine"] == "openvino" else 200.0
    survey_path.write_text(json.dumps({**survey, "fp32_images_per_s": 100.0}))


@pytest.fixture(scope="module")
def store_server() -> Iterator[FaultProxy]:
    """An S3 server for the tests of a module."""
    # Imported here, because few tests need a store and its client.
    from tests.support.object_store import proxy_before
    from tests.support.store_servers import moto

    with moto() as server, proxy_before(server) as proxy:
        yield proxy


@pytest.fixture
def store(store_server: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """An empty bucket, which commands find by their environment."""
    store_server.clear()
    for name, value in store_server.environment.items():
        monkeypatch.setenv(name, value)
    return store_server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    with mounted_disk(tmp_path / "small") as folder:
        yield folder
