"""`label-models export`: the file that a runner without torch takes along."""

from __future__ import annotations

from pathlib import Path

from models.artifact import Artifact, read_artifact, with_certificate
from models.cache import ensure_artifact
from models.certification.certificate import read_certificate
from models.errors import InputMissingError, OutputError, UsageError, output_errors
from models.manifest import certificate_path, checked_name
from models.system.atomic_file import write_atomically
from models.system.isolated_call import Notify


def export_model(name: str, file: Path, notify: Notify) -> Artifact:
    """Write the artifact that `label-dir -m name` runs here into `file`, an int8 one with its certificate; return it.

    Raises UsageError for a file that does not end in .onnx, OutputError for one that holds something else than a model
    of label-dir or cannot be written; otherwise what `ensure_artifact` raises.
    """
    if file.suffix != ".onnx":
        raise UsageError(f"{file} is no name for an exported model: it has to end in .onnx")
    if file.exists():
        try:
            read_artifact(file)
        except InputMissingError as error:
            raise OutputError(f"{file} exists and is no model of label-dir: it is not replaced") from error
    artifact = ensure_artifact(checked_name(name), notify)
    content = artifact.path.read_bytes()
    if artifact.precision == "int8":
        certificate = read_certificate(certificate_path(artifact))
        if certificate is None:
            raise InputMissingError(f"the certificate of {name} cannot be read: label-models certify {name} writes it")
        content = with_certificate(content, certificate.to_json())
    with output_errors(file):
        write_atomically(file, content)
    return read_artifact(file)
