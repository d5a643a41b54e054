"""The way from a model's name to an artifact that may run: built where it is missing, certified where it is new.

A model's files carry their digests in their names and its receipt says which belong together, so whoever reads while
another process builds sees the old model or the new one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from models.artifact import Artifact, Precision, read_artifact
from models.certification.certificate import LARGEST_ARITHMETIC_ERROR, Certificate, read_certificate, write_certificate
from models.engines import DEFAULT_ENGINE, engine_kind
from models.errors import InputMissingError, ModelError, UsageError, output_errors
from models.manifest import (
    Manifest,
    cache_folder,
    certificate_path,
    file_name,
    read_manifest,
    recipe_key,
    torch_int8_name,
    write_manifest,
)
from models.system.atomic_file import write_atomically
from models.system.isolated_call import isolated_call

BUILD_SECONDS_USUAL = 20

Notify = Callable[[str], None]


def ensure_artifact(model: str, notify: Notify, engine: str = DEFAULT_ENGINE) -> Artifact:
    """The artifact that `engine` is to run for a model's name or for the path of an .onnx file.

    Built first where it is not there as it should be, and certified first where this kind of CPU has not seen it; the
    fp32 form where int8 is refused. `notify` gets a sentence whenever something takes time or was not as expected.
    Raises LabelDirError.
    """
    kind = engine_kind(engine)
    if model.endswith(".onnx"):
        return _from_path(Path(model), kind, notify)
    receipt = ensure_built(model, notify)
    if kind == "onnxruntime":
        return _certified(model, receipt, notify)
    fp32 = _verified(model, receipt, "fp32")
    if kind == "onnxruntime-fp32":
        return fp32
    if not receipt.state:
        raise UsageError(f"{model} was imported from ONNX, so torch's engines cannot run it: use onnxruntime")
    if kind == "torch":
        return fp32
    notify(f"{engine} has no certificate: label-models bench {model} --engine torch --engine {engine} compares labels")
    return dataclasses.replace(fp32, sha256=_torch_int8(fp32, engine, notify))


def ensure_built(model: str, notify: Notify) -> Manifest:
    """The receipt of a model all of whose files are as they were written; built by its name where need be."""
    receipt, reason = _built(model)
    if receipt is not None:
        return receipt
    with model_lock(model):
        receipt, reason = _built(model)
        if receipt is not None:
            return receipt
        old = read_manifest(model)
        if old is not None and old.recipe == "":
            raise InputMissingError(f"the model {model} {reason}: build it again with label-models build")
        notify(f"model {model} {reason}: building it, once, in about {BUILD_SECONDS_USUAL} s")
        started = time.monotonic()
        from models.build_steps import prepare_published

        write_manifest(model, isolated_call(prepare_published, notify, model, cache_folder(), recipe_key(model)))
        notify(f"model {model} built in {time.monotonic() - started:.1f} s")
    receipt, reason = _built(model)
    if receipt is None:
        raise ModelError(f"the model {model} was built, but {reason}")
    return receipt


def model_lock(model: str) -> FileLock:
    """The lock under which a model's files are replaced. Raises LabelDirError for a name or folder that cannot be."""
    checked_name(model)
    folder = cache_folder()
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{model}.lock")


def checked_name(model: str) -> str:
    """The name itself. Raises UsageError where it could not be part of a file's name."""
    if not model or not all(letter.isalnum() or letter in "._-" for letter in model) or model.startswith("."):
        raise UsageError(f"{model!r} is no model's name: letters, digits, '.', '_' and '-'")
    return model


def _built(model: str) -> tuple[Manifest | None, str]:
    """The receipt if the model can be used, else the reason why not."""
    receipt = read_manifest(model)
    if receipt is None:
        return None, "is not built yet"
    if receipt.recipe and receipt.recipe != recipe_key(model):
        return None, "was built by another version of label-dir"
    try:
        _verified(model, receipt, "int8")
    except InputMissingError:
        return None, "is damaged in the cache"
    complete = all((cache_folder() / name).is_file() for name in receipt.files)
    return (receipt, "") if complete else (None, "is damaged in the cache")


def _verified(model: str, receipt: Manifest, precision: Precision) -> Artifact:
    """An artifact of the model whose content is what its name says. Raises InputMissingError."""
    path = cache_folder() / (receipt.int8 if precision == "int8" else receipt.fp32)
    artifact = read_artifact(path)
    if path.name != file_name(model, precision, artifact.sha256):
        raise InputMissingError(f"{path} is damaged: remove it, or build {model} again with label-models build")
    return artifact


def _certified(model: str, receipt: Manifest, notify: Notify) -> Artifact:
    int8 = _verified(model, receipt, "int8")
    certificate = read_certificate(certificate_path(int8)) or _measured(model, int8, receipt, notify)
    if certificate.passed:
        return int8
    hint = f"label-models certify {model} --photos PHOTOS measures it on your photos"
    notify(f"running {model} in fp32, because its int8 form is {certificate.verdict()} ({hint})")
    return _verified(model, receipt, "fp32")


def _measured(model: str, int8: Artifact, receipt: Manifest, notify: Notify) -> Certificate:
    """The certificate of a model that this kind of CPU has not run yet."""
    with model_lock(f"{model}.certificate"):
        found = read_certificate(certificate_path(int8))
        if found is not None:
            return found
        notify(f"model {model} is new to this CPU: measuring int8 against fp32, once, in some seconds")
        from models.certification.certify import Terms, certify

        fp32 = cache_folder() / receipt.fp32
        certificate = isolated_call(certify, notify, int8.path, fp32, None, Terms())
        write_certificate(certificate_path(int8), certificate)
        notify(f"model {model} is {certificate.verdict()}")
        return certificate


def _torch_int8(fp32: Artifact, engine: str, notify: Notify) -> str:
    """The sha256 of torch's quantized weights of a model, which are made where they are missing."""
    path = fp32.path.parent / torch_int8_name(fp32, engine)
    with model_lock(f"{fp32.name}.{engine}"):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        notify(f"quantizing {fp32.name} for {engine} on generated images, once, in about {BUILD_SECONDS_USUAL} s")
        from models.engines.torch_int8 import write_torch_int8

        return isolated_call(write_torch_int8, notify, fp32.path, engine, None)


def _from_path(path: Path, kind: str, notify: Notify) -> Artifact:
    if kind.startswith("torch"):
        raise UsageError(f"torch's engines run models by name, not files such as {path}")
    artifact = read_artifact(path)
    if artifact.precision == "fp32":
        return artifact
    if kind == "onnxruntime-fp32":
        raise UsageError(f"{path} is an int8 model: the engine onnxruntime runs it")
    certificate = read_certificate(certificate_path(artifact))
    if certificate is None:
        _check_arithmetic(artifact, notify)
    elif not certificate.passed:
        notify(f"{path} is {certificate.verdict()}")
    return artifact


def _check_arithmetic(artifact: Artifact, notify: Notify) -> None:
    """Measure what an int8 file shows without its fp32 form, once per kind of CPU. Raises InputMissingError."""
    path = certificate_path(artifact).with_suffix(".arithmetic")
    with model_lock(f"{artifact.sha256}.arithmetic"):
        try:
            error = float(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            from models.certification.certify import arithmetic_error

            error = isolated_call(arithmetic_error, notify, artifact.path)
            with output_errors(path):
                write_atomically(path, f"{error:.6f}".encode())
    if error > LARGEST_ARITHMETIC_ERROR:
        raise InputMissingError(
            f"{artifact.path} is refused: this CPU's int8 kernels do not compute what it says, relative error "
            f"{error:.1%}, at most {LARGEST_ARITHMETIC_ERROR:.1%} allowed; its fp32 form runs here"
        )
    notify(
        f"{artifact.path} is int8 without its fp32 form beside it: that this CPU computes it rightly was checked, "
        "how far its labels agree with fp32 was not"
    )
