"""The engines that run a model, by name, behind one protocol."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from models.errors import UsageError
from models.system.installed import installed_version

if TYPE_CHECKING:
    from models.classifier import Pixels, TopK

EngineKind = Literal["onnxruntime", "onnxruntime-fp32", "openvino", "torch", "torch-int8"]

# Engine -> the built form of a model that it runs.
ENGINES: dict[str, EngineKind] = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-fp32": "onnxruntime-fp32",
    "openvino": "openvino",
    "torch": "torch",
    "torch-channels-last": "torch",
    "torchscript": "torch",
    "torch-bfloat16": "torch",
    "torch-float16": "torch",
    "torch-dynamic-int8": "torch",
    "torch-int8": "torch-int8",
    "torch-int8-fbgemm": "torch-int8",
    "torch-int8-onednn": "torch-int8",
}
# The fastest of the int8 engines that is right on this CPU; `models.certification.engine_choice` chooses.
AUTO_ENGINE = "auto"
# The engines that `auto` chooses from, and the package of each. The default comes first.
INT8_ENGINES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torch-int8": "torch"}


class Engine(Protocol):
    """A loaded model: uint8 [n, side, side, 3] RGB photos in, the k likeliest classes of each out."""

    def warm_up(self, batch_size: int) -> None:
        """Classify black images, so that the first real batch takes no longer than the next ones."""

    def classify(self, pixels: Pixels) -> TopK:
        """The k likeliest classes of each photo, in descending order of probability."""


def engine_kind(name: str) -> EngineKind:
    """The built form of a model that the engine runs. Raises UsageError for an unknown name."""
    if name not in ENGINES:
        raise UsageError(f"there is no engine called {name}; the engines are {', '.join([AUTO_ENGINE, *ENGINES])}")
    return ENGINES[name]


def import_engine(name: str) -> None:
    """Import what the engine needs where that is little, so that processes forked from this one share it."""
    if engine_kind(name).startswith("onnxruntime"):
        # An exception that a signal handler raises in the midst of a library's start becomes an ImportError.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            import models.classifier  # noqa: F401
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def installed_versions(engines: Iterable[str]) -> dict[str, str]:
    """Those of INT8_ENGINES that are installed, with the versions of their packages."""
    versions = {engine: installed_version(INT8_ENGINES[engine]) for engine in engines}
    return {engine: version for engine, version in versions.items() if version is not None}


def check_installed(engine: str) -> None:
    """Raise UsageError where an engine that comes with an extra is not installed."""
    if engine in INT8_ENGINES and not installed_versions([engine]):
        raise UsageError(f"the engine {engine} is not installed: pip install 'label-dir[{engine}]'")


def load_engine(name: str, artifact_path: Path, threads: int, top_k: int, cpus: tuple[int, ...] = ()) -> Engine:
    """The engine with the model loaded, running `threads` threads, pinned to `cpus` if the engine can pin them.

    `artifact_path` is the path of the artifact that `models.cache.ensure_artifact` gave for this engine. Only torch's
    engines import torch. Raises LabelDirError.
    """
    kind = engine_kind(name)
    if kind == "openvino":
        from models.engines.openvino_engine import OpenVinoClassifier

        return OpenVinoClassifier(artifact_path, threads, top_k)
    if not kind.startswith("torch"):
        from models.classifier import Classifier

        return Classifier(artifact_path, threads, top_k, cpus)
    from models.engines.torch_engines import load_torch_engine

    return load_torch_engine(name, artifact_path, threads, top_k)
