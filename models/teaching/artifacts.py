"""A taught network's weights -> its fp32 artifact, which says what it was taught with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.build_steps import write_artifact
from models.errors import output_errors
from models.manifest import state_file_name
from models.networks.references import References
from models.quantization.artifact_builder import fp32_artifact
from models.system.atomic_file import write_atomically
from models.system.isolated_call import Notify


@dataclass(frozen=True, slots=True)
class Taught:
    """The weights file of a taught network, its references, and what is told of it."""

    name: str
    base: str
    checkpoint: Path
    labels: tuple[str, ...]
    references: References
    told: dict[str, Any]


def prepare_taught(notify: Notify, taught: Taught, folder: Path) -> tuple[str, str]:
    """Write the fp32 artifact and torch's state dict: their file names. Imports torch. Raises LabelDirError."""
    from models.networks import trained_networks

    trained = trained_networks.from_checkpoint(taught.base, taught.checkpoint, taught.labels, taught.name)
    source = {**trained.network.source, "weights": f"taught from {taught.base}", "teaching": taught.told}
    network = replace(trained.network, source=source, references=taught.references)
    state = state_file_name(taught.name, network.source["weights_sha256"])
    with output_errors(folder / state):
        write_atomically(folder / state, trained.state)
    return write_artifact(folder, taught.name, "fp32", fp32_artifact(network)), state
