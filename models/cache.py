"""The artifact that a run may use for a model's name: built where it is missing, certified where the CPU is new.

The names of a model's files contain their digests, and its manifest lists the files that belong together. So a process
that reads while another one builds sees the old model or the new one, never a mixture.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

from models.artifact import Artifact, Precision, read_artifact
from models.certification.certificate import (
    LARGEST_ARITHMETIC_ERROR,
    Certificate,
    certificate_of,
    read_certificate,
    write_certificate,
)
from models.certification.engine_choice import Choice, chosen_engine, ensure_torch_int8
from models.engines import AUTO_ENGINE, EngineKind, check_installed, engine_kind
from models.errors import InputMissingError, ModelError, UsageError, output_errors
from models.manifest import (
    Manifest,
    cache_folder,
    certificate_path,
    checked_name,
    file_name,
    manifest_path,
    read_manifest,
    recipe_key,
    write_manifest,
)
from models.model_lock import kept_if_writable, lock_if_writable, model_lock
from models.spec import DEFAULT_ENGINE
from models.system.atomic_file import write_atomically
from models.system.installed import require_packages
from models.system.isolated_call import Notify, isolated_call
from models.zoo import SPECS

BUILD_SECONDS_USUAL = 20
RANDOM_WEIGHTS = "random"
RANDOM_SUFFIX = "-random"
_FOREIGN_WEIGHTS = "in the cache has other weights than its own"
_DAMAGED_MANIFEST = "has a damaged manifest"


def ensure_artifact(model: str, notify: Notify, engine: str = DEFAULT_ENGINE) -> Artifact:
    """The artifact that `engine` is to run for a model's name or for the path of an .onnx file.

    A model that is missing, damaged or of another version is built first, and an int8 model that this kind of CPU has
    not run yet is certified first; where int8 is not certified, the artifact is the fp32 one. `notify` gets a sentence
    for everything that takes time or is unusual. Raises LabelDirError.
    """
    kind = "onnxruntime" if engine == AUTO_ENGINE else engine_kind(engine)
    if kind.startswith("torch"):
        require_packages(f"the engine {engine}", "torch")
    if kind == "openvino":
        check_installed(engine)
    if model.endswith(".onnx"):
        return _from_path(Path(model), engine, kind, notify)
    manifest, int8 = _built(checked_name(model), notify)
    if kind in ("onnxruntime", "openvino"):
        return _by_int8(int8, manifest, engine, notify)
    fp32 = dataclasses.replace(_verified(model, manifest, "fp32"), engine=engine)
    if kind == "onnxruntime-fp32":
        return fp32
    if not manifest.state:
        raise UsageError(f"{model} was imported from ONNX, so torch's engines cannot run it: use onnxruntime")
    if kind == "torch":
        return fp32
    notify(f"{engine} has no certificate: label-models bench {model} --engine torch --engine {engine} compares labels")
    return dataclasses.replace(fp32, sha256=ensure_torch_int8(fp32, engine, notify))


def ensure_built(model: str, notify: Notify) -> Manifest:
    """The manifest of a model whose files are complete and undamaged; built first where they are not.

    Raises LabelDirError, also where a user built the model with label-models from files that only the user has.
    """
    return _built(model, notify)[0]


def _built(model: str, notify: Notify) -> tuple[Manifest, Artifact]:
    """The manifest and the int8 artifact of a model; does and raises what `ensure_built` does."""
    usable = _usable(model)
    if isinstance(usable, str):
        with model_lock(model, notify):
            usable = _usable(model)
            if isinstance(usable, str):
                _build(model, usable, notify)
                usable = _usable(model)
    if isinstance(usable, str):
        raise ModelError(f"the model {model} was built, but {usable}")
    return usable


def _usable(model: str) -> tuple[Manifest, Artifact] | str:
    """The manifest and the int8 artifact of a model that can be used, else the reason why it cannot."""
    manifest = read_manifest(model)
    if manifest is None:
        return _DAMAGED_MANIFEST if manifest_path(model).exists() else "is not built yet"
    if manifest.recipe and manifest.recipe != recipe_key(model):
        return "was built by another version of label-dir"
    try:
        int8 = _verified(model, manifest, "int8")
    except InputMissingError:
        return "is damaged in the cache"
    weights = int8.source.get("weights_sha256")
    if model in SPECS and weights != SPECS[model].weights.sha256:
        return _FOREIGN_WEIGHTS
    if int8.source.get("weights") == RANDOM_WEIGHTS and not model.endswith(RANDOM_SUFFIX):
        raise InputMissingError(
            f"the model {model} has random weights, which label photos with noise: build it again with its own "
            f"weights, or with --random-weights --name {model}{RANDOM_SUFFIX}"
        )
    is_complete = all((cache_folder() / name).is_file() for name in manifest.files)
    return (manifest, int8) if is_complete else "is damaged in the cache"


def _build(model: str, reason: str, notify: Notify) -> None:
    """Build a model by its name, in a process of its own; the caller holds the model's lock."""
    old = read_manifest(model)
    if reason == _DAMAGED_MANIFEST and model not in SPECS:
        raise InputMissingError(f"the model {model} {reason}: remove {manifest_path(model)} and build the model again")
    if old is not None and old.recipe == "" and reason != _FOREIGN_WEIGHTS:
        raise InputMissingError(f"the model {model} {reason}: build it again with label-models build")
    require_packages(f"building the model {model}", "torch", "onnx")
    notify(f"model {model} {reason}: building it, once, in about {BUILD_SECONDS_USUAL} s")
    started = time.monotonic()
    from models.build_steps import prepare_published

    write_manifest(model, isolated_call(prepare_published, notify, model, cache_folder(), recipe_key(model)))
    notify(f"model {model} built in {time.monotonic() - started:.1f} s")


def _verified(model: str, manifest: Manifest, precision: Precision) -> Artifact:
    """The model's artifact of a precision. Raises InputMissingError where its digest is not the one in its name."""
    path = cache_folder() / (manifest.int8 if precision == "int8" else manifest.fp32)
    artifact = read_artifact(path)
    if path.name != file_name(model, precision, artifact.sha256):
        raise InputMissingError(f"{path} is damaged: remove it, or build {model} again with label-models build")
    return artifact


def _by_int8(int8: Artifact, manifest: Manifest, asked: str, notify: Notify) -> Artifact:
    """The int8 artifact with the engine that runs it here; the fp32 one where int8 is not certified."""
    model = int8.name

    def fp32() -> Artifact:
        return _verified(model, manifest, "fp32")

    certificate = read_certificate(certificate_path(int8)) or _measured(model, int8, manifest, notify)
    engine = chosen_engine(Choice(int8, fp32, certificate, bool(manifest.state)), asked, notify)
    if engine == "torch-int8":
        found = fp32()
        return dataclasses.replace(found, sha256=ensure_torch_int8(found, engine, notify), engine=engine)
    if engine != DEFAULT_ENGINE:
        return dataclasses.replace(int8, engine=engine)
    if certificate.passed:
        return int8
    hint = f"label-models certify {model} --photos PHOTOS measures it on your photos"
    notify(f"running {model} in fp32, because its int8 form is {certificate.verdict()} ({hint})")
    return fp32()


def _measured(model: str, int8: Artifact, manifest: Manifest, notify: Notify) -> Certificate:
    """The certificate of a model that this kind of CPU has not run yet."""
    path = certificate_path(int8)
    with lock_if_writable(model, notify, ".certificate"):
        if (certificate := read_certificate(path)) is not None:
            return certificate
        notify(f"model {model} is new to this CPU: measuring int8 against fp32, once, in some seconds")
        from models.certification.certify import Terms, certify

        certificate = isolated_call(certify, notify, int8.path, cache_folder() / manifest.fp32, None, Terms())
        with kept_if_writable(notify):
            write_certificate(path, certificate)
        notify(f"model {model} is {certificate.verdict()}")
        return certificate


def _from_path(path: Path, engine: str, kind: EngineKind, notify: Notify) -> Artifact:
    """The artifact in a file of the user's; an int8 one is checked as far as that is possible without its fp32 form."""
    if kind.startswith("torch"):
        raise UsageError(f"torch's engines run models by name, not files such as {path}")
    artifact = read_artifact(path)
    if artifact.precision == "fp32":
        return artifact if engine == AUTO_ENGINE else dataclasses.replace(artifact, engine=engine)
    if kind == "onnxruntime-fp32":
        raise UsageError(f"{path} is an int8 model: the engine onnxruntime runs it")
    certificate = read_certificate(certificate_path(artifact))
    if engine != DEFAULT_ENGINE:
        chosen = chosen_engine(Choice(artifact, certificate=certificate), engine, notify)
        if chosen != DEFAULT_ENGINE:
            return dataclasses.replace(artifact, engine=chosen)
    if certificate is None:
        _check_arithmetic(artifact, notify)
    elif not certificate.passed:
        notify(f"{path} is {certificate.verdict()}")
    return artifact


def _check_arithmetic(artifact: Artifact, notify: Notify) -> None:
    """Check this CPU's arithmetic on an int8 artifact, measured once for this kind of CPU. Raises InputMissingError."""
    path = certificate_path(artifact).with_suffix(".arithmetic")
    with lock_if_writable(artifact.sha256, notify, ".arithmetic"):
        error = _kept_error(path)
        if is_new := error is None:
            from models.certification.certify import arithmetic_error

            error = isolated_call(arithmetic_error, notify, artifact.path)
            with kept_if_writable(notify), output_errors(path):
                write_atomically(path, f"{error:.6f}".encode())
    if not error <= LARGEST_ARITHMETIC_ERROR:
        raise InputMissingError(
            f"{artifact.path} is refused: this CPU's int8 kernels do not compute exactly, relative error {error:.1%}, "
            f"at most {LARGEST_ARITHMETIC_ERROR:.1%} allowed; use the model's fp32 form"
        )
    terms = certificate_of(artifact.certificate)
    if terms is None or terms.model_id != artifact.model_id:
        notify(
            f"{artifact.path} is int8 without its fp32 form: this CPU's arithmetic was checked, "
            "the agreement of its labels with fp32 was not"
        )
    elif not terms.agrees:
        notify(f"{artifact.path} is not certified: {'; '.join(terms.faults)}")
    elif is_new:
        notify(
            f"{artifact.path} is certified on this CPU: its arithmetic is exact, so that the agreement of "
            f"{terms.top1_agreement:.1%} on {terms.images}, measured before the export, holds here"
        )


def _kept_error(path: Path) -> float | None:
    """The arithmetic error in a file; None where the file is missing or holds no finite number above or equal to 0."""
    try:
        error = float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return error if 0 <= error < math.inf else None
