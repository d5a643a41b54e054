"""The steps of building a model's files: network, calibration, int8 artifact and certificate.

They run in a child process (`isolated_call`), and return the names of the files they wrote. The caller lists those in a
manifest afterwards, so that a step that fails leaves no more than unlisted files with digests in their names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from models.certification.certificate import Certificate
from models.certification.certify import Terms, certify
from models.errors import output_errors
from models.manifest import Manifest, file_name, state_file_name
from models.networks.network import Network, read_network
from models.networks.onnx_import import ImportRequest, imported_network
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import calibrate
from models.quantization.calibration_table import Calibration, committed_calibration
from models.quantization.quantize import Recipe
from models.quantization.recipes import recipes
from models.samples import CALIBRATION_IMAGES, CALIBRATION_SEED, Photos, generated_images
from models.system.atomic_file import write_atomically
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify


@dataclass(frozen=True, slots=True)
class Origin:
    """The architecture of a model called `name`, with published weights, those of a checkpoint, or random ones."""

    name: str
    architecture: str
    weights: Path | None = None
    labels: tuple[str, ...] | None = None
    random: bool = False


@dataclass(frozen=True, slots=True)
class Int8Request:
    """How to quantize and certify: with a calibration that is `known`, or else one measured on `photos`; certified by
    `terms` on `held_out` photos. Generated images take the place of photos that are None."""

    terms: Terms
    photos: Photos | None = None
    held_out: Photos | None = None
    known: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Int8Result:
    """The file names of the chosen int8 artifact and of its calibration, and the artifact's certificate."""

    int8: str
    calibration: str
    certificate: Certificate


def prepare_published(notify: Notify, name: str, folder: Path, recipe_key: str) -> Manifest:
    """The manifest of a model built by its name alone: published weights, portable recipe, and the calibration that
    label-dir ships or, without one, a calibration on generated images. Raises LabelDirError."""
    fp32, state = prepare_network(notify, Origin(name, name), folder)
    network = read_network(folder / fp32)
    calibration = committed_calibration(name) or calibrate(network, _generated(network), threads=1)[0]
    content = int8_artifact(network, calibration, Recipe("portable"), calibration.validation)
    int8 = write_artifact(folder, name, "int8", content)
    return Manifest(recipe_key, int8, fp32, state, _write_calibration(folder, name, calibration))


def prepare_network(notify: Notify, origin: Origin, folder: Path) -> tuple[str, str]:
    """The file names of the fp32 artifact and of torch's state dict. Imports torch. Raises LabelDirError."""
    from models.networks.trained_networks import from_checkpoint, published, random_weights

    if origin.random:
        trained = random_weights(origin.architecture, origin.name)
    elif origin.weights is not None:
        trained = from_checkpoint(origin.architecture, origin.weights, origin.labels, origin.name)
    else:
        trained = published(origin.architecture)
    network = replace(trained.network, name=origin.name)
    state = state_file_name(origin.name, network.source["weights_sha256"])
    _write(folder / state, trained.state)
    return write_artifact(folder, origin.name, "fp32", fp32_artifact(network)), state


def prepare_import(notify: Notify, request: ImportRequest, folder: Path) -> str:
    """The file name of the fp32 artifact of an imported ONNX file. Raises LabelDirError."""
    return write_artifact(folder, request.name, "fp32", fp32_artifact(imported_network(request)))


def prepare_int8(notify: Notify, folder: Path, fp32: str, request: Int8Request) -> Int8Result:
    """The first int8 artifact, in the order of `recipes`, that is certified on this CPU.

    Where no artifact passes: the one with the least divergence from fp32, and its certificate that does not pass.
    """
    network = read_network(folder / fp32)
    terms, photos = request.terms, request.photos or _generated(network)
    calibration = request.known or calibrate(network, photos, terms.threads)[0]
    notify(f"activation ranges: {calibration.method}, from {calibration.source}")
    results: list[tuple[str, Certificate]] = []
    for recipe in recipes(network, calibration, photos.pixels, this_cpu(), terms.threads):
        name = write_artifact(folder, network.name, "int8", int8_artifact(network, calibration, recipe))
        certificate = certify(notify, folder / name, folder / fp32, request.held_out, terms)
        fp32_layers = f", {len(recipe.float_nodes)} layers in fp32" if recipe.float_nodes else ""
        notify(f"{recipe.weight_range} weights{fp32_layers}: {certificate.verdict()}")
        results.append((name, certificate))
        if certificate.passed:
            break
    chosen, certificate = min(results, key=lambda result: (not result[1].passed, result[1].divergence))
    return Int8Result(chosen, _write_calibration(folder, network.name, calibration), certificate)


def _generated(network: Network) -> Photos:
    pixels = generated_images(CALIBRATION_IMAGES, network.preprocessing.crop.crop_size, CALIBRATION_SEED)
    return Photos(pixels, f"{CALIBRATION_IMAGES} generated images")


def write_artifact(folder: Path, model: str, precision: str, content: bytes) -> str:
    """Put an artifact into the folder, under a name with its digest: that name."""
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
