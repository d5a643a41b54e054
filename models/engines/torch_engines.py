"""The engines that run a network in torch: eager, channels-last, traced, half precision and torch's own int8."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact import Artifact, read_artifact
from models.classifier import Pixels, TopK, check_finite
from models.engines.torch_int8 import dynamic_int8, load_torch_int8
from models.engines.torch_weights import load_torch_module
from models.quantization.agreement import IMAGES_PER_RUN, Logits

Module = torch.nn.Module


def _traced(module: Module, side: int) -> Module:
    with torch.inference_mode():
        traced: Any = torch.jit.trace(module, torch.zeros(1, 3, side, side))  # type: ignore[no-untyped-call]
        frozen: Module = torch.jit.freeze(traced)
        return frozen


@dataclass(frozen=True, slots=True)
class TorchForm:
    """How an engine runs a module: the type of its floats, the layout of its tensors in memory, and what `convert`
    makes of the module and the side of its photos in pixels."""

    precision: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    convert: Callable[[Module, int], Module] = lambda module, side: module


_FORMS = {
    "torch": TorchForm(),
    "torch-channels-last": TorchForm(memory_format=torch.channels_last),
    "torchscript": TorchForm(convert=_traced),
    "torch-bfloat16": TorchForm(torch.bfloat16, torch.channels_last),
    "torch-float16": TorchForm(torch.float16, torch.channels_last),
    "torch-dynamic-int8": TorchForm(convert=dynamic_int8),
}


class TorchClassifier:
    """An Engine around a torch module, which gets normalised photos and gives logits."""

    def __init__(self, artifact: Artifact, module: Module, top_k: int, form: TorchForm):
        self._path, self._module, self._top_k, self._form = artifact.path, module, top_k, form
        normalisation = artifact.preprocessing.normalisation
        self._mean = torch.tensor(normalisation.mean).reshape(1, 3, 1, 1)
        self._std = torch.tensor(normalisation.std).reshape(1, 3, 1, 1)
        self._side = artifact.preprocessing.crop.crop_size

    def warm_up(self, batch_size: int) -> None:
        """Classify black images twice: a traced module optimises itself on its second run.

        Raises InputMissingError where the answers are no numbers.
        """
        for _ in range(2):
            check_finite(self.classify(np.zeros((batch_size, self._side, self._side, 3), np.uint8)), self._path)

    def classify(self, pixels: Pixels) -> TopK:
        """The k likeliest classes of each photo; `pixels` uint8 [n, side, side, 3] RGB."""
        with torch.inference_mode():
            best, ids = torch.topk(torch.softmax(self._logits(pixels), dim=1), self._top_k, dim=1)
        return TopK(ids.to(torch.int32).numpy(), best.numpy(), np.ones(len(ids), np.float32))

    def logits(self, pixels: Pixels) -> Logits:
        """Logits float32 [n, classes] of uint8 [n, side, side, 3], n > 0."""
        with torch.inference_mode():
            starts = range(0, len(pixels), IMAGES_PER_RUN)
            parts = [self._logits(pixels[start : start + IMAGES_PER_RUN]).numpy() for start in starts]
        return np.concatenate(parts)

    def _logits(self, pixels: Pixels) -> torch.Tensor:
        photos = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
        normalised = ((photos - self._mean) / self._std).to(self._form.precision)
        logits: torch.Tensor = self._module(normalised.contiguous(memory_format=self._form.memory_format))
        return logits.float()


def torch_int8_logits(artifact: Artifact, pixels: Pixels, kernels: str) -> Logits:
    """The logits of torch's int8 weights by some of torch's `kernels`, of BACKENDS. Raises InputMissingError."""
    module = load_torch_int8(artifact, "torch-int8", kernels)
    return TorchClassifier(artifact, module, 1, TorchForm()).logits(pixels)


def load_torch_engine(name: str, artifact_path: Path, threads: int, top_k: int) -> TorchClassifier:
    """The torch engine called `name`. Sets the number of threads of this whole process. Raises InputMissingError."""
    torch.set_num_threads(threads)
    artifact = read_artifact(artifact_path)
    if name.startswith("torch-int8"):
        return TorchClassifier(artifact, load_torch_int8(artifact, name), top_k, TorchForm())
    form = _FORMS[name]
    with warnings.catch_warnings(action="ignore"):
        module = load_torch_module(artifact).to(form.precision).to(memory_format=form.memory_format)
        module = form.convert(module, artifact.preprocessing.crop.crop_size)
    return TorchClassifier(artifact, module, top_k, form)
