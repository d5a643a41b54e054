"""torch's ways to run a network: eager, channels-last, traced and frozen, half precision, dynamic int8, static int8."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact import Artifact, read_artifact
from models.classifier import Pixels, TopK
from models.errors import InputMissingError
from models.manifest import state_file_name
from models.networks.architectures import new_module
from models.networks.checkpoint import load_strictly, read_checkpoint

Module = torch.nn.Module


class TorchClassifier:
    """A torch module with its normalisation before and softmax and top-k after it.

    `precision` is the module's own; `memory_format` how its photos lie in memory.
    """

    def __init__(self, artifact: Artifact, module: Module, top_k: int, precision: torch.dtype, channels_last: bool):
        self._module, self._top_k, self._precision = module, top_k, precision
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._mean = torch.tensor(artifact.preprocessing.normalisation.mean).reshape(1, 3, 1, 1)
        self._std = torch.tensor(artifact.preprocessing.normalisation.std).reshape(1, 3, 1, 1)
        self._side = artifact.preprocessing.crop.crop_size

    def warm_up(self, batch_size: int) -> None:
        """Run twice on black images: a traced module specialises itself on the second run."""
        for _ in range(2):
            self.classify(np.zeros((batch_size, self._side, self._side, 3), np.uint8))

    def classify(self, pixels: Pixels) -> TopK:
        """uint8 [n, side, side, 3] RGB -> the k likeliest classes of each photo."""
        with torch.inference_mode():
            photos = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
            x = ((photos - self._mean) / self._std).to(self._precision).contiguous(memory_format=self._format)
            probabilities = torch.softmax(self._module(x).float(), dim=1)
            best, ids = torch.topk(probabilities, self._top_k, dim=1)
        return TopK(ids.to(torch.int32).numpy(), best.numpy())


def load_torch_engine(name: str, artifact_path: Path, threads: int, top_k: int) -> TorchClassifier:
    """The torch engine called `name`. Sets the threads of this process. Raises InputMissingError."""
    torch.set_num_threads(threads)
    artifact = read_artifact(artifact_path)
    if name.startswith("torch-int8"):
        from models.engines.torch_int8 import load_torch_int8

        return TorchClassifier(artifact, load_torch_int8(artifact, name), top_k, torch.float32, False)
    module = torch_module(artifact)
    prepare, precision, channels_last = _FORMS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare(module, artifact.preprocessing.crop.crop_size)
    return TorchClassifier(artifact, prepared, top_k, precision, channels_last)


def torch_module(artifact: Artifact) -> Module:
    """The network of an fp32 artifact as it was before export, from the state dict beside it."""
    path = artifact.path.parent / state_file_name(artifact.name, artifact.source["weights_sha256"])
    if not path.is_file():
        raise InputMissingError(f"torch's weights of {artifact.name} are not beside {artifact.path}")
    module = new_module(artifact.source["architecture"], len(artifact.labels))
    load_strictly(module, read_checkpoint(path), artifact.source["architecture"], path)
    return module.eval()


def _eager(module: Module, side: int) -> Module:
    return module


def _channels_last(module: Module, side: int) -> Module:
    return module.to(memory_format=torch.channels_last)


def _scripted(module: Module, side: int) -> Module:
    with torch.inference_mode():
        traced: Any = torch.jit.trace(module, torch.zeros(1, 3, side, side))  # type: ignore[no-untyped-call]
        frozen: Module = torch.jit.freeze(traced)
        return frozen


def _half(module: Module, side: int, precision: torch.dtype) -> Module:
    return module.to(precision).to(memory_format=torch.channels_last)


def _bfloat16(module: Module, side: int) -> Module:
    return _half(module, side, torch.bfloat16)


def _float16(module: Module, side: int) -> Module:
    return _half(module, side, torch.float16)


def _dynamic_int8(module: Module, side: int) -> Module:
    from models.engines.torch_int8 import dynamic_int8

    return dynamic_int8(module)


_FORMS: dict[str, tuple[Callable[[Module, int], Module], torch.dtype, bool]] = {
    "torch": (_eager, torch.float32, False),
    "torch-channels-last": (_channels_last, torch.float32, True),
    "torchscript": (_scripted, torch.float32, False),
    "torch-bfloat16": (_bfloat16, torch.bfloat16, True),
    "torch-float16": (_float16, torch.float16, True),
    "torch-dynamic-int8": (_dynamic_int8, torch.float32, False),
}
