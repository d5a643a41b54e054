"""The torch module that an fp32 artifact was exported from, with its weights."""

from __future__ import annotations

import torch

from models.artifact import Artifact
from models.errors import InputMissingError
from models.manifest import state_file_name
from models.networks.architectures import new_module
from models.networks.checkpoint import load_strictly, read_checkpoint


def load_torch_module(artifact: Artifact) -> torch.nn.Module:
    """The module in evaluation mode, with the weights of the state dict in the artifact's folder. Raises
    InputMissingError where the state dict is missing, damaged or of another architecture."""
    path = artifact.path.parent / state_file_name(artifact.name, artifact.source["weights_sha256"])
    if not path.is_file():
        raise InputMissingError(f"torch's weights of {artifact.name} are not in the folder of {artifact.path}")
    module = new_module(artifact.source["architecture"], len(artifact.labels))
    load_strictly(module, read_checkpoint(path), artifact.source["architecture"], path)
    return module
