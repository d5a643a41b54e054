"""What `label-models build`, `import`, `certify` and `list` do, once the command line has been understood."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.workshop.photos import DecodedPhoto, decoded_sample, photos_of
from models.artifact import Artifact, read_artifact
from models.build_steps import Int8Request, Origin, prepare_import, prepare_int8, prepare_network
from models.cache import ensure_artifact, ensure_built, model_lock
from models.certification.certificate import MEGABYTE, Certificate, read_certificate, write_certificate
from models.certification.certify import Terms, certify
from models.errors import InputMissingError
from models.manifest import Manifest, built_models, cache_folder, certificate_path, read_manifest, write_manifest
from models.networks.onnx_import import ImportRequest
from models.quantization.calibration_table import PHOTO_DIGITS, Calibration
from models.samples import Photos
from models.spec import Crop
from models.system.isolated_call import Notify, isolated_call
from models.zoo import SPECS

SAMPLE_SEED = 11


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of `label-models list`; texts are empty where the model is not built."""

    name: str
    classes: str
    input_pixels: str
    model_id: str
    int8_megabytes: str
    fp32_megabytes: str
    certificate: str


@dataclass(frozen=True, slots=True)
class Calibrating:
    """The folder whose photos set the activation ranges, how many of them, and the terms of the certificate."""

    folder: Path | None
    samples: int
    terms: Terms


def build_published(name: str, notify: Notify) -> Certificate | None:
    """A model by its name alone, as `label-dir` would build it at its first run."""
    artifact = ensure_artifact(name, notify)
    return None if artifact.precision == "fp32" else read_certificate(certificate_path(artifact))


def build_own(origin: Origin, calibrating: Calibrating, notify: Notify) -> Certificate:
    """A network from its origin, calibrated and certified. Raises LabelDirError; the cache then stays as it was."""
    _check_photos(calibrating)
    with model_lock(origin.name), _sweeping(origin.name):
        fp32, state = isolated_call(prepare_network, notify, origin, cache_folder())
        return _quantize(origin.name, fp32, state, calibrating, notify)


def import_onnx(request: ImportRequest, calibrating: Calibrating, notify: Notify) -> Certificate:
    """The same from somebody's own ONNX file."""
    _check_photos(calibrating)
    with model_lock(request.name), _sweeping(request.name):
        fp32 = isolated_call(prepare_import, notify, request, cache_folder())
        return _quantize(request.name, fp32, "", calibrating, notify)


def certify_again(name: str, folder: Path | None, samples: int, terms: Terms, notify: Notify) -> Certificate:
    """Certify a built model on photos that did not calibrate it; other recipes are tried if it is refused."""
    receipt = ensure_built(name, notify)
    int8 = read_artifact(cache_folder() / receipt.int8)
    calibration = Calibration.from_json((cache_folder() / receipt.calibration).read_text(encoding="utf-8"))
    photos = _unseen(folder, samples, calibration, int8, notify) if folder is not None else None
    certificate = isolated_call(certify, notify, int8.path, cache_folder() / receipt.fp32, photos, terms)
    if not certificate.passed:
        notify(f"{name} is {certificate.verdict()}; trying other recipes")
        request = Int8Request(terms, held_out=photos, known=calibration)
        certificate = _other_recipes(name, receipt, request, notify) or certificate
    receipt = read_manifest(name) or receipt
    _keep_certificate(name, receipt.int8, certificate)
    return certificate


def _other_recipes(name: str, receipt: Manifest, request: Int8Request, notify: Notify) -> Certificate | None:
    """The certificate of another recipe, which the model then has; None where all are refused."""
    with model_lock(name), _sweeping(name):
        result = isolated_call(prepare_int8, notify, cache_folder(), receipt.fp32, request)
        if not result.certificate.passed:
            return None
        changed = dataclasses.replace(receipt, recipe="", int8=result.int8, calibration=result.calibration)
        write_manifest(name, changed)
        return result.certificate


def listed_models() -> list[Listed]:
    """The models of the zoo and all that were built, by name."""
    return [_listed(name) for name in sorted({*SPECS, *built_models()})]


def other_names() -> list[str]:
    """The names of torchvision's models that are not built."""
    return isolated_call(_other_names, lambda sentence: None)


def _other_names(notify: Notify) -> list[str]:
    from models.networks.architectures import torchvision_names

    return sorted(set(torchvision_names()) - set(built_models()))


def _listed(name: str) -> Listed:
    receipt = read_manifest(name)
    if receipt is None:
        side = str(SPECS[name].preprocessing.crop.crop_size)
        return Listed(name, "1000", side, "", "", "", "not built")
    try:
        int8 = read_artifact(cache_folder() / receipt.int8)
        fp32_bytes = (cache_folder() / receipt.fp32).stat().st_size
    except (InputMissingError, OSError):
        return Listed(name, "", "", "", "", "", "damaged")
    certificate = read_certificate(certificate_path(int8))
    return Listed(
        name,
        str(len(int8.labels)),
        str(int8.preprocessing.crop.crop_size),
        int8.model_id,
        f"{int8.path.stat().st_size / MEGABYTE:.2f}",
        f"{fp32_bytes / MEGABYTE:.2f}",
        certificate.verdict() if certificate else "not measured on this CPU",
    )


def _quantize(name: str, fp32: str, state: str, calibrating: Calibrating, notify: Notify) -> Certificate:
    artifact = read_artifact(cache_folder() / fp32)
    photos = held_out = None
    if calibrating.folder is not None:
        sample = decoded_sample(calibrating.folder, artifact.preprocessing.crop, SAMPLE_SEED)
        drawn = list(itertools.islice(sample, 2 * calibrating.samples))
        split = min(calibrating.samples, (len(drawn) + 1) // 2)
        photos = photos_of(drawn[:split], calibrating.folder, "", artifact.labels)
        held_out = photos_of(drawn[split:], calibrating.folder, " kept out of calibration", artifact.labels)
    request = Int8Request(calibrating.terms, photos, held_out)
    result = isolated_call(prepare_int8, notify, cache_folder(), fp32, request)
    write_manifest(name, Manifest("", result.int8, fp32, state, result.calibration))
    _keep_certificate(name, result.int8, result.certificate)
    return result.certificate


def _keep_certificate(name: str, int8: str, certificate: Certificate) -> None:
    # A run that measures the same model meanwhile writes the same file.
    with model_lock(f"{name}.certificate"):
        write_certificate(certificate_path(read_artifact(cache_folder() / int8)), certificate)


def _check_photos(calibrating: Calibrating) -> None:
    """Raise InputMissingError for a folder without photos before the network is exported, not minutes later."""
    if calibrating.folder is not None:
        next(decoded_sample(calibrating.folder, Crop(8, 8, "bilinear"), SAMPLE_SEED))


def _unseen(folder: Path, samples: int, calibration: Calibration, artifact: Artifact, notify: Notify) -> Photos:
    """Photos of the folder that are not among those that calibrated the model. Raises InputMissingError."""
    seen = set(calibration.digests)
    kept: list[DecodedPhoto] = []
    skipped = 0
    for photo in decoded_sample(folder, artifact.preprocessing.crop, SAMPLE_SEED):
        if photo.digest[:PHOTO_DIGITS] in seen:
            skipped += 1
        elif len(kept) < samples:
            kept.append(photo)
    if skipped:
        notify(f"{skipped} photos of {folder} calibrated the model, so they do not count")
    photos = photos_of(kept, folder, " kept out of calibration" if skipped else "", artifact.labels)
    if photos is None:
        raise InputMissingError(f"all photos of {folder} calibrated the model: certify it on others")
    return photos


@contextlib.contextmanager
def _sweeping(name: str) -> Iterator[None]:
    """Remove what the block leaves of a model besides the files of its receipt."""
    before = set(cache_folder().glob(f"{name}-*"))
    try:
        yield
    finally:
        receipt = read_manifest(name)
        kept = receipt.files if receipt else set()
        for path in set(cache_folder().glob(f"{name}-*")) - before:
            if path.name not in kept:
                path.unlink(missing_ok=True)
