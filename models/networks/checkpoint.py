"""Files of weights as training loops leave them -> the tensors that an architecture loads."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from models.errors import InputMissingError

StateDict = dict[str, torch.Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
PREFIXES = ("_orig_mod.", "module.", "model.", "backbone.", "net.", "network.")
NAMES_SHOWN = 3


def read_checkpoint(path: Path) -> StateDict:
    """The tensors of a file that torch.save wrote, by name, without the prefixes that training loops add.

    Only tensors and plain containers are unpickled. Raises InputMissingError.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputMissingError(f"cannot read the weights {path}: {error.strerror or error}") from error
    try:
        loaded = torch.load(content, weights_only=True, map_location="cpu")
    except Exception as error:
        # Of damaged files torch's unpickler raises errors of any class.
        if "Weights only load failed" in str(error) and "Unsupported" in str(error):
            raise InputMissingError(
                f"the weights {path} pickle more than tensors, which could run code: save model.state_dict() instead"
            ) from error
        raise InputMissingError(f"the weights {path} are truncated, damaged or no file of torch.save") from error
    tensors = _tensors(loaded)
    if not tensors:
        raise InputMissingError(f"the weights {path} hold no tensors: save model.state_dict()")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point()):
        raise InputMissingError(f"the weights {path} have values that are not finite numbers")
    return _without_prefixes(tensors)


def _tensors(loaded: object) -> StateDict:
    """The tensors of the innermost dictionary under the keys in WRAPPERS; none if there is no dictionary."""
    while isinstance(loaded, dict):
        inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, dict):
        return {}
    return {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def _without_prefixes(tensors: StateDict) -> StateDict:
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def head_name(module: torch.nn.Module, classes: int) -> str:
    """The name of the weights of the layer that gives the logits: the last layer with as many outputs as classes."""
    names = [name for name, value in module.state_dict().items() if value.ndim in (2, 4) and len(value) == classes]
    return names[-1]


def class_count(tensors: StateDict, head: str, architecture: str, path: Path) -> int:
    """The number of a checkpoint's classes: the outputs of its layer `head`. Raises InputMissingError without one."""
    if head not in tensors:
        shown = ", ".join(list(tensors)[-NAMES_SHOWN:])
        raise InputMissingError(
            f"the weights {path} are of no {architecture}: there is no {head} (they end in {shown})"
        )
    return len(tensors[head])


def load_strictly(module: torch.nn.Module, tensors: StateDict, architecture: str, path: Path | str) -> None:
    """Load `tensors` into the module, save heads that only training uses (aux*), which are skipped. Raises
    InputMissingError unless they are the module's own by name and shape."""
    wanted = module.state_dict()
    tensors = {name: value for name, value in tensors.items() if not name.lower().startswith("aux")}
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    surplus = [name for name in tensors if name not in wanted]
    shaped = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    for names, what in ((missing, "lack"), (surplus, "have besides"), (shaped, "have in another shape")):
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            shown = ", ".join(names[:NAMES_SHOWN])
            raise InputMissingError(f"the weights {path} do not fit {architecture}: they {what} {shown}{more}")
    module.load_state_dict(tensors, strict=not any(name not in tensors for name in wanted))
