"""torch's own quantization, static and dynamic: deprecated in torch, so that only this file uses that interface.

Where torch no longer has it, these engines raise InputMissingError and the others go on.
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
from models.engines.torch_weights import load_torch_module
from models.errors import InputMissingError, first_line, output_errors
from models.manifest import torch_int8_name
from models.networks.architectures import WITH_AUXILIARY_HEAD, new_module
from models.quantization.activation_stats import IMAGES_PER_RUN, normalised
from models.samples import CALIBRATION_IMAGES, CALIBRATION_SEED, generated_images
from models.system.atomic_file import write_atomically
from models.system.isolated_call import Notify

BACKENDS = {"torch-int8": "x86", "torch-int8-fbgemm": "fbgemm", "torch-int8-onednn": "onednn"}

Module = torch.nn.Module


def dynamic_int8(module: Module, side: int) -> Module:
    """The module with int8 weights in linear layers, whose inputs are quantized by batch; convolutions stay in fp32."""
    quantized: Module = _ao("quantize").quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
    return quantized


def write_torch_int8(notify: Notify, fp32_path: Path, engine: str, pixels: Pixels | None) -> str:
    """The sha256 of the quantized state dict, which is written to the folder of the fp32 artifact.

    Activation ranges are observed on `pixels`, uint8 [n, crop, crop, 3], or without them on generated images. Raises
    InputMissingError.
    """
    artifact = read_artifact(fp32_path)
    preprocessing = artifact.preprocessing
    if pixels is None:
        pixels = generated_images(CALIBRATION_IMAGES, preprocessing.crop.crop_size, CALIBRATION_SEED)
    module = _with_observers(artifact, engine, load_torch_module(artifact).state_dict())
    with torch.inference_mode():
        for start in range(0, len(pixels), IMAGES_PER_RUN):
            module(torch.from_numpy(normalised(pixels[start : start + IMAGES_PER_RUN], preprocessing.normalisation)))
    stream = io.BytesIO()
    torch.save(_quantized(module).state_dict(), stream)
    path = fp32_path.parent / torch_int8_name(artifact, engine)
    with output_errors(path):
        write_atomically(path, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def load_torch_int8(artifact: Artifact, engine: str, kernels: str = "") -> Module:
    """The quantized network with the weights of its state dict, run by the engine's kernels or by other `kernels` of
    BACKENDS. Raises InputMissingError."""
    path = artifact.path.parent / torch_int8_name(artifact, engine)
    observed = _with_observers(artifact, engine, None)
    torch.backends.quantized.engine = kernels or BACKENDS[engine]
    module = _quantized(observed)
    try:
        with warnings.catch_warnings(action="ignore"):
            module.load_state_dict(torch.load(path, weights_only=True))
    except Exception as error:
        raise InputMissingError(f"cannot load torch's int8 weights {path}: {first_line(error)}") from error
    return module


def _ao(module: str) -> Any:
    with warnings.catch_warnings(action="ignore"):
        try:
            return importlib.import_module(f"torch.ao.quantization.{module}")
        except ImportError as error:
            raise InputMissingError(f"torch {torch.__version__} no longer has its own int8 quantization") from error


def _with_observers(artifact: Artifact, engine: str, state: dict[str, torch.Tensor] | None) -> Module:
    """The network with fused layers and observers: torchvision's quantizable form if there is one, else traced."""
    backend, architecture, classes = BACKENDS[engine], artifact.source["architecture"], len(artifact.labels)
    torch.backends.quantized.engine = backend
    quantizable = f"quantized_{architecture}"
    with warnings.catch_warnings(action="ignore"):
        if quantizable not in torchvision.models.list_models(module=torchvision.models.quantization):
            module = new_module(architecture, classes)
            module.load_state_dict(state or module.state_dict())
            mapping = _ao("qconfig_mapping").get_default_qconfig_mapping(backend)
            side = artifact.preprocessing.crop.crop_size
            example = torch.zeros(1, 3, side, side)
            prepared: Module = _ao("quantize_fx").prepare_fx(module, mapping, (example,))
            return prepared
        options: dict[str, Any] = {"weights": None, "quantize": False, "num_classes": classes}
        if architecture in WITH_AUXILIARY_HEAD:
            options["aux_logits"] = False
        module = torchvision.models.get_model(quantizable, **options).eval()
        module.load_state_dict(state or module.state_dict())
        module.fuse_model()
        module.qconfig = _ao("qconfig").get_default_qconfig(backend)
        return _ao("quantize").prepare(module)  # type: ignore[no-any-return]


def _quantized(module: Module) -> Module:
    """The network that an observed one becomes: its layers replaced by int8 ones with the ranges that were observed."""
    with warnings.catch_warnings(action="ignore"):
        is_traced = isinstance(module, torch.fx.GraphModule)
        convert = _ao("quantize_fx").convert_fx if is_traced else _ao("quantize").convert
        return convert(module)  # type: ignore[no-any-return]
