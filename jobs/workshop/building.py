"""`label-models build`, `import`, `certify` and `list`, after the command line is parsed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.workshop.options import CertificateOptions, QuantizationOptions
from jobs.workshop.photos import DecodedPhoto, decoded_sample, photos_of
from models.artifact import Artifact, read_artifact
from models.cache import RANDOM_SUFFIX, ensure_artifact, ensure_built
from models.certification.certificate import MEGABYTE, Certificate, read_certificate, write_certificate
from models.certification.certify import certify
from models.certification.engine_choice import Choice, survey_again, survey_path
from models.certification.engine_survey import EngineSurvey, read_survey
from models.errors import InputMissingError, UsageError
from models.manifest import (
    Manifest,
    built_models,
    cache_folder,
    certificate_path,
    checked_name,
    is_file_of,
    read_manifest,
    write_manifest,
)
from models.model_lock import model_lock
from models.quantization.calibration_table import PHOTO_DIGITS, Calibration
from models.samples import Photos
from models.spec import Crop
from models.system.isolated_call import Notify, isolated_call
from models.zoo import SPECS

# A runner lists its models without onnx, which these import.
if TYPE_CHECKING:
    from models.build_steps import Int8Request, Origin
    from models.networks.onnx_import import ImportRequest

SAMPLE_SEED = 11
LISTED_COLUMNS = ("name", "classes", "pixels", "id", "int8 MB", "fp32 MB", "auto runs", "certificate")


def check_own_name(name: str) -> str:
    """The name itself. Raises UsageError where label-dir would take a user's model for one of its own."""
    if checked_name(name) in SPECS:
        raise UsageError(f"the name {name} is reserved for its own weights: give this model another with --name NAME")
    return name


def check_origin(origin: Origin) -> None:
    """Raise UsageError for a name that hides random weights, or that is reserved for other weights."""
    if origin.random and not origin.name.endswith(RANDOM_SUFFIX):
        raise UsageError(
            "random weights label photos with noise: call such a model NAME-random, as in "
            f"--name {origin.architecture}{RANDOM_SUFFIX}"
        )
    if origin.random or origin.weights is not None or origin.architecture != origin.name:
        check_own_name(origin.name)


def build_published(name: str, notify: Notify) -> Certificate | None:
    """Build a model by its name, as the first run of `label-dir` does, and return its certificate; None for fp32."""
    artifact = ensure_artifact(name, notify)
    return None if artifact.precision == "fp32" else read_certificate(certificate_path(artifact))


def build_own(origin: Origin, quantization: QuantizationOptions, notify: Notify) -> Certificate:
    """Build, calibrate and certify a network. Raises LabelDirError; the cache then stays as it was."""
    from models.build_steps import prepare_network

    check_origin(origin)
    _check_photos(quantization)
    with model_lock(origin.name, notify), _removing_leftovers(origin.name):
        fp32, state = isolated_call(prepare_network, notify, origin, cache_folder())
        return _quantize(origin.name, fp32, state, quantization, notify)


def import_onnx(request: ImportRequest, quantization: QuantizationOptions, notify: Notify) -> Certificate:
    """Import, calibrate and certify an ONNX file. Raises LabelDirError; the cache then stays as it was."""
    from models.build_steps import prepare_import

    check_own_name(request.name)
    _check_photos(quantization)
    with model_lock(request.name, notify), _removing_leftovers(request.name):
        fp32 = isolated_call(prepare_import, notify, request, cache_folder())
        return _quantize(request.name, fp32, "", quantization, notify)


def certify_again(
    name: str, folder: Path | None, options: CertificateOptions, notify: Notify
) -> tuple[Certificate, EngineSurvey | None]:
    """Certify a built model on photos that did not calibrate it; if refused, try other recipes. Then measure every
    installed engine that can run it; None where only onnxruntime is installed."""
    manifest = ensure_built(name, notify)
    int8 = read_artifact(cache_folder() / manifest.int8)
    calibration = _kept_calibration(cache_folder() / manifest.calibration, name)
    photos = _unseen(folder, options.samples, calibration, int8, notify) if folder is not None else None
    certificate = isolated_call(certify, notify, int8.path, cache_folder() / manifest.fp32, photos, options.terms)
    if not certificate.passed:
        from models.build_steps import Int8Request

        notify(f"{name} is {certificate.verdict()}; trying other recipes")
        request = Int8Request(options.terms, held_out=photos, known=calibration)
        certificate = _other_recipes(name, manifest, request, notify) or certificate
    manifest = read_manifest(name) or manifest
    _keep_certificate(name, manifest.int8, certificate, notify)
    int8, fp32 = (read_artifact(cache_folder() / file) for file in (manifest.int8, manifest.fp32))
    choice = Choice(int8, lambda: fp32, certificate, bool(manifest.state))
    return certificate, survey_again(choice, photos, options.terms, notify)


def _kept_calibration(path: Path, name: str) -> Calibration:
    try:
        return Calibration.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputMissingError(f"the calibration {path} of {name} is damaged: build the model again") from error


def _other_recipes(name: str, manifest: Manifest, request: Int8Request, notify: Notify) -> Certificate | None:
    """Replace the model by another recipe and return its certificate; None where all recipes are refused."""
    from models.build_steps import prepare_int8

    with model_lock(name, notify), _removing_leftovers(name):
        result = isolated_call(prepare_int8, notify, cache_folder(), manifest.fp32, request)
        if not result.certificate.passed:
            return None
        changed = dataclasses.replace(manifest, recipe="", int8=result.int8, calibration=result.calibration)
        write_manifest(name, changed)
        return result.certificate


def listed_models() -> list[tuple[str, ...]]:
    """Return a line of texts for each model of the zoo and each built model, by name; see LISTED_COLUMNS."""
    return [_listed(name) for name in sorted({*SPECS, *built_models()})]


def other_names() -> list[str]:
    """Return the names of torchvision's models that are not built."""
    return isolated_call(_other_names, lambda sentence: None)


def _other_names(notify: Notify) -> list[str]:
    from models.networks.architectures import torchvision_names

    return sorted(set(torchvision_names()) - set(built_models()))


def _listed(name: str) -> tuple[str, ...]:
    manifest = read_manifest(name)
    if manifest is None:
        return name, "1000", str(SPECS[name].preprocessing.crop.crop_size), "", "", "", "", "not built"
    try:
        int8 = read_artifact(cache_folder() / manifest.int8)
        sizes = [(cache_folder() / file).stat().st_size / MEGABYTE for file in (manifest.int8, manifest.fp32)]
    except (InputMissingError, OSError):
        return name, "", "", "", "", "", "", "damaged"
    certificate = read_certificate(certificate_path(int8))
    verdict = certificate.verdict() if certificate else "not measured on this CPU"
    pixels, megabytes = str(int8.preprocessing.crop.crop_size), [f"{size:.2f}" for size in sizes]
    return name, str(len(int8.labels)), pixels, int8.model_id, *megabytes, _auto_runs(int8), verdict


def _auto_runs(int8: Artifact) -> str:
    """Return the engine that `--engine auto` runs on this CPU, and how fast it is."""
    survey = read_survey(survey_path(int8))
    return f"{survey.choice} ({survey.speedup(survey.choice):.2f}x)" if survey else ""


def _quantize(name: str, fp32: str, state: str, quantization: QuantizationOptions, notify: Notify) -> Certificate:
    from models.build_steps import Int8Request, prepare_int8

    artifact = read_artifact(cache_folder() / fp32)
    photos = held_out = None
    if quantization.calibrate is not None:
        crop = artifact.preprocessing.crop
        with contextlib.closing(decoded_sample(quantization.calibrate, crop, SAMPLE_SEED)) as sample:
            drawn = list(itertools.islice(sample, 2 * quantization.samples))
        split = min(quantization.samples, (len(drawn) + 1) // 2)
        photos = photos_of(drawn[:split], quantization.calibrate, "", artifact.labels)
        held_out = photos_of(drawn[split:], quantization.calibrate, " kept out of calibration", artifact.labels)
    request = Int8Request(quantization.terms, photos, held_out)
    result = isolated_call(prepare_int8, notify, cache_folder(), fp32, request)
    replaced = read_manifest(name)
    write_manifest(name, Manifest("", result.int8, fp32, state, result.calibration))
    if replaced is not None and replaced.int8 != result.int8:
        notify(f"the model {name} that was built before ({replaced.int8}) is replaced")
    _keep_certificate(name, result.int8, result.certificate, notify)
    return result.certificate


def _keep_certificate(name: str, int8: str, certificate: Certificate, notify: Notify) -> None:
    # A run that measures the same model meanwhile writes the same file.
    with model_lock(name, notify, ".certificate"):
        write_certificate(certificate_path(read_artifact(cache_folder() / int8)), certificate)


def _check_photos(quantization: QuantizationOptions) -> None:
    """Raise InputMissingError for a folder without photos before the network is exported, not minutes later."""
    if quantization.calibrate is not None:
        with contextlib.closing(decoded_sample(quantization.calibrate, Crop(8, 8, "bilinear"), SAMPLE_SEED)) as sample:
            next(sample)


def _unseen(folder: Path, samples: int, calibration: Calibration, artifact: Artifact, notify: Notify) -> Photos:
    """Return photos of the folder that are not among those that calibrated the model. Raises InputMissingError."""
    seen = set(calibration.digests)
    kept: list[DecodedPhoto] = []
    skipped = 0
    for photo in decoded_sample(folder, artifact.preprocessing.crop, SAMPLE_SEED):
        if photo.digest[:PHOTO_DIGITS] in seen:
            skipped += 1
        elif len(kept) < samples:
            kept.append(photo)
    if skipped:
        notify(f"{skipped} photos of {folder} calibrated the model and are not used to certify it")
    photos = photos_of(kept, folder, " kept out of calibration" if skipped else "", artifact.labels)
    if photos is None:
        raise InputMissingError(f"all photos of {folder} calibrated the model: certify it on other photos")
    return photos


@contextlib.contextmanager
def _removing_leftovers(name: str) -> Iterator[None]:
    """Remove the files of a model that the block adds and its manifest does not name."""
    before = _files_of(name)
    try:
        yield
    finally:
        manifest = read_manifest(name)
        kept = manifest.files if manifest else set()
        for path in _files_of(name) - before:
            if path.name not in kept:
                path.unlink(missing_ok=True)


def _files_of(name: str) -> set[Path]:
    # A pattern such as `shelf-*` would also match the files of a model shelf-2.
    folder = cache_folder()
    return {path for path in folder.iterdir() if is_file_of(name, path.name)} if folder.is_dir() else set()
