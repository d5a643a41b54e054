"""torch's own quantization, static and dynamic. It is deprecated there: all that label-dir knows of it is in this file.

Where torch no longer has it, these engines say so and the others go on.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision

from models.artifact import Artifact, read_artifact
from models.classifier import Pixels
from models.errors import InputMissingError, output_errors
from models.manifest import torch_int8_name
from models.networks.architectures import WITH_AUXILIARY_HEAD, new_module
from models.quantization.activation_stats import normalised
from models.samples import generated_images
from models.system.atomic_file import write_atomically
from models.system.isolated_call import Notify

IMAGES_PER_RUN = 8
CALIBRATION_IMAGES = 64
CALIBRATION_SEED = 5
BACKENDS = {"torch-int8": "x86", "torch-int8-fbgemm": "fbgemm", "torch-int8-onednn": "onednn"}

Module = torch.nn.Module


def dynamic_int8(module: Module) -> Module:
    """int8 weights in the linear layers, their activations quantized as they come; convolutions stay in fp32."""
    quantized: Module = _ao("quantize").quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
    return quantized


def torch_int8_path(artifact: Artifact, engine: str) -> Path:
    """Where the quantized state dict of an fp32 artifact's network for one of torch's int8 engines lies."""
    return artifact.path.parent / torch_int8_name(artifact, engine)


def write_torch_int8(notify: Notify, fp32_path: Path, engine: str, pixels: Pixels | None) -> str:
    """Quantize a network, its activations observed on uint8 [n, crop, crop, 3] or, without, on generated images.

    Keeps its quantized state dict and returns the file's sha256. Raises InputMissingError.
    """
    from models.engines.torch_engines import torch_module

    artifact = read_artifact(fp32_path)
    if pixels is None:
        pixels = generated_images(CALIBRATION_IMAGES, artifact.preprocessing.crop.crop_size, CALIBRATION_SEED)
    module = _prepared(artifact, engine, torch_module(artifact).state_dict())
    with torch.inference_mode():
        for start in range(0, len(pixels), IMAGES_PER_RUN):
            module(
                torch.from_numpy(
                    normalised(pixels[start : start + IMAGES_PER_RUN], artifact.preprocessing.normalisation)
                )
            )
    stream = io.BytesIO()
    torch.save(_converted(module).state_dict(), stream)
    path = torch_int8_path(artifact, engine)
    with output_errors(path):
        write_atomically(path, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def load_torch_int8(artifact: Artifact, engine: str) -> Module:
    """The quantized network from its state dict. Raises InputMissingError."""
    path = torch_int8_path(artifact, engine)
    module = _converted(_prepared(artifact, engine, None))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module.load_state_dict(torch.load(path, weights_only=True))
    except Exception as error:
        raise InputMissingError(f"cannot load torch's int8 weights {path}: {str(error).splitlines()[0]}") from error
    return module


def _ao(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"torch.ao.quantization.{module}")
        except ImportError as error:
            raise InputMissingError(f"torch {torch.__version__} no longer has its own int8 quantization") from error


def _prepared(artifact: Artifact, engine: str, state: dict[str, torch.Tensor] | None) -> Module:
    """The network with fused layers and observers: torchvision's quantizable form where there is one, else traced."""
    backend, shape, classes = BACKENDS[engine], artifact.source["architecture"], len(artifact.labels)
    torch.backends.quantized.engine = backend
    qconfig, fx = _ao("qconfig"), _ao("quantize_fx")
    quantizable = f"quantized_{shape}" in torchvision.models.list_models(module=torchvision.models.quantization)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not quantizable:
            module = new_module(shape, classes)
            module.load_state_dict(state or module.state_dict())
            mapping = _ao("qconfig_mapping").get_default_qconfig_mapping(backend)
            prepared: Module = fx.prepare_fx(module, mapping, _example(artifact))
            return prepared
        options: dict[str, Any] = {"weights": None, "quantize": False, "num_classes": classes}
        if shape in WITH_AUXILIARY_HEAD:
            options["aux_logits"] = False
        module = torchvision.models.get_model(f"quantized_{shape}", **options).eval()
        module.load_state_dict(state or module.state_dict())
        module.fuse_model()
        module.qconfig = qconfig.get_default_qconfig(backend)
        return _ao("quantize").prepare(module)  # type: ignore[no-any-return]


def _converted(module: Module) -> Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(module, torch.fx.GraphModule):
            return _ao("quantize_fx").convert_fx(module)  # type: ignore[no-any-return]
        return _ao("quantize").convert(module)  # type: ignore[no-any-return]


def _example(artifact: Artifact) -> tuple[torch.Tensor]:
    side = artifact.preprocessing.crop.crop_size
    return (torch.zeros(1, 3, side, side),)
