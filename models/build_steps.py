"""Building a model's files, in a child process: network, calibration, candidates, certificate, and only then a receipt.

Whatever fails leaves files without a receipt at most, and those carry their digest in their names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from models.certification.certificate import Certificate
from models.certification.certify import Terms, certify
from models.errors import output_errors
from models.manifest import Manifest, file_name, state_file_name
from models.networks.network import Network, network_of
from models.networks.onnx_import import ImportRequest, imported_network
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import calibrate
from models.quantization.calibration_table import Calibration, committed_calibration
from models.quantization.quantize import Recipe
from models.quantization.recipes import recipes
from models.samples import Photos, generated_images
from models.system.atomic_file import write_atomically
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify

CALIBRATION_SEED = 5
GENERATED_CALIBRATION_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Origin:
    """What to build a network from: an architecture with published weights, with a checkpoint, or with random ones."""

    name: str
    architecture: str
    weights: Path | None = None
    labels: tuple[str, ...] | None = None
    random: bool = False


@dataclass(frozen=True, slots=True)
class Int8Request:
    """How to quantize: with figures that are `known`, or else measured on `photos` (generated images without any);
    certified on `held_out` photos (the same) by these terms."""

    terms: Terms
    photos: Photos | None = None
    held_out: Photos | None = None
    known: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Int8Result:
    """The int8 artifact that was chosen, its calibration's file, and the certificate it got, all by file name."""

    int8: str
    calibration: str
    certificate: Certificate


def prepare_published(notify: Notify, name: str, folder: Path, recipe_key: str) -> Manifest:
    """A model by its name alone: published weights, the committed table or generated images, the first recipe."""
    fp32, state = prepare_network(notify, Origin(name, name), folder)
    network = network_of(folder / fp32)
    calibration = committed_calibration(name)
    if calibration is None:
        calibration = _calibration(network, None, 1)
    validation = dict(calibration.validation)
    int8 = _write_artifact(folder, name, "int8", int8_artifact(network, calibration, Recipe("portable"), validation))
    return Manifest(recipe_key, int8, fp32, state, _write_calibration(folder, name, calibration))


def prepare_network(notify: Notify, origin: Origin, folder: Path) -> tuple[str, str]:
    """Write the fp32 artifact and torch's state dict: their file names. Imports torch. Raises LabelDirError."""
    from models.networks import trained_networks as sources

    if origin.random:
        trained = sources.random_weights(origin.architecture, origin.name)
    elif origin.weights is not None:
        trained = sources.own(origin.architecture, origin.weights, origin.labels, origin.name)
    else:
        trained = sources.published(origin.architecture)
    network = replace(trained.network, name=origin.name)
    state = state_file_name(origin.name, network.source["weights_sha256"])
    _write(folder / state, trained.state)
    return _write_artifact(folder, origin.name, "fp32", fp32_artifact(network)), state


def prepare_import(notify: Notify, request: ImportRequest, folder: Path) -> str:
    """Write the fp32 artifact of an ONNX file: its file name. Raises LabelDirError."""
    return _write_artifact(folder, request.name, "fp32", fp32_artifact(imported_network(request)))


def prepare_int8(notify: Notify, folder: Path, fp32: str, request: Int8Request) -> Int8Result:
    """Calibrate where there is no calibration yet, then try recipe after recipe until one is certified on this CPU.

    The result is the one that passed; if none did, the one nearest to fp32 in its answers, with its refusal.
    """
    network = network_of(folder / fp32)
    terms, calibration = request.terms, request.known
    if calibration is None:
        calibration = _calibration(network, request.photos, terms.threads)
    notify(f"activation ranges: {calibration.method}, from {calibration.source}")
    results: list[tuple[str, Certificate]] = []
    pixels = request.photos.pixels if request.photos else _generated(network).pixels
    for recipe in recipes(network, calibration, pixels, this_cpu(), terms.threads):
        content = int8_artifact(network, calibration, recipe, {})
        name = _write_artifact(folder, network.name, "int8", content)
        certificate = certify(notify, folder / name, folder / fp32, request.held_out, terms)
        kept = f", {len(recipe.float_nodes)} layers in fp32" if recipe.float_nodes else ""
        notify(f"{recipe.weight_range} weights{kept}: {certificate.verdict()}")
        results.append((name, certificate))
        if certificate.passed:
            break
    chosen, certificate = min(results, key=lambda result: (not result[1].passed, result[1].divergence))
    return Int8Result(chosen, _write_calibration(folder, network.name, calibration), certificate)


def _calibration(network: Network, photos: Photos | None, threads: int) -> Calibration:
    return calibrate(network, photos or _generated(network), threads)[0]


def _generated(network: Network) -> Photos:
    pixels = generated_images(GENERATED_CALIBRATION_IMAGES, network.preprocessing.crop.crop_size, CALIBRATION_SEED)
    return Photos(pixels, f"{len(pixels)} generated images")


def _write_artifact(folder: Path, model: str, precision: str, content: bytes) -> str:
    name = file_name(model, precision, hashlib.sha256(content).hexdigest())
    _write(folder / name, content)
    return name


def _write_calibration(folder: Path, model: str, calibration: Calibration) -> str:
    content = calibration.to_json().encode()
    name = f"{model}-calibration-{hashlib.sha256(content).hexdigest()[:12]}.json"
    _write(folder / name, content)
    return name


def _write(path: Path, content: bytes) -> None:
    with output_errors(path):
        write_atomically(path, content)
