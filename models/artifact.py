"""The description inside an artifact: an .onnx file whose metadata holds labels, preprocessing, source and figures.

The description is in the file's metadata, so that onnxruntime alone can run the model. It is read here without onnx or
onnxruntime, whose imports take longer than the rest of a start: the top level of an ONNX file is a sequence of protobuf
fields (protobuf.dev, "Encoding"), and the graph among them is skipped by its length.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from models.errors import InputMissingError
from models.spec import DEFAULT_ENGINE, Crop, Interpolation, Normalisation, Preprocessing
from models.system.outside_text import is_path_part

FORMAT = "label-dir classifier 1"
METADATA_FIELD, KEY_FIELD, VALUE_FIELD = 14, 1, 2
# An exported file is its artifact and one entry more at the end. No label depends on this entry, so that it is not part
# of the digest: rows of the artifact and rows of the exported file are of the same model.
CERTIFICATE_KEY = "certificate"
ID_DIGITS = 12
# Of the options --input and --resize of label-models import.
LARGEST_SIDE = 8192
JSON_OBJECTS = ("source", "calibration", "validation")

Precision = Literal["int8", "fp32"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The lowest probability of the best label, and the lowest familiarity, -1 to 1, of a photo that is not unsure."""

    min_probability: float
    min_familiarity: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """The description of a classifier file.

    `sha256` is of the whole file but the certificate that an export adds. `source` says where the weights came from,
    `calibration` what the activation ranges were measured on, `validation` how the model agreed with fp32 when it was
    built; each is a JSON object, and empty where nothing is known. `certificate` is the JSON text in an exported file,
    "" in any other. `engine` is not in the file: it is what a run chose to run the classifier with.
    """

    path: Path
    name: str
    sha256: str
    precision: Precision
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    source: dict[str, Any]
    calibration: dict[str, Any]
    validation: dict[str, Any]
    certificate: str = ""
    engine: str = DEFAULT_ENGINE

    @property
    def model_id(self) -> str:
        """The text of a table's `model` column: `name@` and the first 12 hexadecimal digits of `sha256`; then `+` and
        the engine where it is not onnxruntime, because another engine changes some labels."""
        # onnxruntime-fp32 is the same engine; its fp32 file has another sha256.
        suffix = "" if self.engine.startswith(DEFAULT_ENGINE) else f"+{self.engine}"
        return f"{self.name}@{self.sha256[:ID_DIGITS]}{suffix}"

    @property
    def thresholds(self) -> Thresholds:
        """What an answer needs to count as sure: of a taught model, what its teaching chose; of others, nothing."""
        taught = self.source.get("teaching", {})
        return Thresholds(float(taught.get("min_probability", 0.0)), float(taught.get("min_familiarity", -1.0)))


def metadata_of(artifact: Artifact) -> dict[str, str]:
    """The metadata entries of an artifact's file: all of the description but `path` and `sha256`."""
    preprocessing = artifact.preprocessing
    documents = {
        "labels": artifact.labels,
        "preprocessing": {**asdict(preprocessing.crop), **asdict(preprocessing.normalisation)},
        **{name: getattr(artifact, name) for name in JSON_OBJECTS},
    }
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in documents.items()}
    return {"format": FORMAT, "name": artifact.name, "precision": artifact.precision, **texts}


def read_artifact(path: Path) -> Artifact:
    """The description in a file, within milliseconds.

    Raises InputMissingError for a file that is missing, damaged or no artifact of label-dir.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputMissingError(f"cannot read the model {path}: {error.strerror}") from error
    try:
        entries = dict(_metadata(content))
    except (ValueError, IndexError, KeyError) as error:
        raise InputMissingError(f"{path} is damaged or no ONNX file") from error
    certificate = entries.get(CERTIFICATE_KEY, "")
    if entries.get("format") != FORMAT:
        raise InputMissingError(
            f"{path} is no model built by label-models (label-models import makes one of another ONNX file)"
        )
    if not is_path_part(entries.get("name", "")):
        raise InputMissingError(f"{path} is damaged: its name is no name of a model")
    try:
        sha256 = hashlib.sha256(_without_certificate(content, certificate)).hexdigest()
        artifact = _described(path, sha256, entries)
        fault = _description_fault(artifact)
        # JSON can hold half a surrogate pair, which neither a table nor another model file takes.
        "".join(metadata_of(artifact).values()).encode()
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputMissingError(f"{path} is damaged: its description cannot be read") from error
    if fault:
        raise InputMissingError(f"{path} is damaged: {fault}")
    return artifact


def _described(path: Path, sha256: str, entries: dict[str, str]) -> Artifact:
    """Return what the metadata `entries` of a file say, unchecked; a wrong type or value raises as Python does."""
    crop = dict(json.loads(entries["preprocessing"]))
    normalisation = Normalisation(tuple(crop.pop("mean")), tuple(crop.pop("std")))
    return Artifact(
        path=path,
        name=entries["name"],
        sha256=sha256,
        precision="int8" if entries["precision"] == "int8" else "fp32",
        preprocessing=Preprocessing(Crop(**crop), normalisation),
        labels=_labels(entries["labels"]),
        **{name: json.loads(entries[name]) for name in JSON_OBJECTS},
        certificate=entries.get(CERTIFICATE_KEY, ""),
    )


def with_certificate(content: bytes, certificate: str) -> bytes:
    """The content of an artifact's file with a certificate, a JSON text, added to its end."""
    return content + _certificate_entry(certificate)


def _without_certificate(content: bytes, certificate: str) -> bytes:
    return content.removesuffix(_certificate_entry(certificate)) if certificate else content


def _certificate_entry(certificate: str) -> bytes:
    """An ONNX file's field for one entry of metadata, key and value."""
    texts = ((KEY_FIELD, CERTIFICATE_KEY.encode()), (VALUE_FIELD, certificate.encode()))
    return _field(METADATA_FIELD, b"".join(_field(number, text) for number, text in texts))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint_of(len(content)) + content


def _varint_of(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _description_fault(artifact: Artifact) -> str:
    """What is wrong with a description of the right form, "" where nothing is. Raises TypeError or ValueError for
    thresholds that are no numbers."""
    crop, normalisation = artifact.preprocessing.crop, artifact.preprocessing.normalisation
    sides = (crop.resize_size, crop.crop_size)
    channels = (*normalisation.mean, *normalisation.std)
    if not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        return f"its crop is not of 1 to {LARGEST_SIDE} pixels"
    if crop.interpolation not in get_args(Interpolation):
        return "its interpolation is unknown"
    if len(normalisation.mean) != 3 or len(normalisation.std) != 3 or not all(map(_is_finite, channels)):
        return "its mean and std are not three finite numbers each"
    if min(normalisation.std) <= 0:
        return "its std is not above zero"
    if not artifact.labels:
        return "it has no labels"
    if not all(isinstance(getattr(artifact, name), dict) for name in JSON_OBJECTS):
        return f"{', '.join(JSON_OBJECTS)} are not all JSON objects"
    if not isinstance(artifact.source.get("teaching", {}), dict):
        return "its teaching is no JSON object"
    thresholds = artifact.thresholds
    if not (_is_finite(thresholds.min_probability) and _is_finite(thresholds.min_familiarity)):
        return "its thresholds are not finite numbers"
    return ""


def _labels(text: str) -> tuple[str, ...]:
    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("the labels are no list of texts")
    return tuple(labels)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _metadata(content: bytes) -> Iterator[tuple[str, str]]:
    """The entries of an ONNX file's metadata_props."""
    for field, value in _fields(memoryview(content)):
        if field == METADATA_FIELD:
            entry = {number: bytes(text).decode() for number, text in _fields(value)}
            yield entry[KEY_FIELD], entry.get(VALUE_FIELD, "")


def _fields(buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of one protobuf message with a length (wire type 2): number and content; integers are skipped.

    Raises ValueError or IndexError for anything but a message of such fields and integers.
    """
    position = 0
    while position < len(buffer):
        tag, position = _varint(buffer, position)
        number, position = _varint(buffer, position)
        if tag & 7 == 2:
            if position + number > len(buffer):
                raise ValueError("a field reaches beyond the end")
            yield tag >> 3, buffer[position : position + number]
            position += number
        elif tag & 7 != 0:
            raise ValueError(f"wire type {tag & 7} does not occur here")


def _varint(buffer: memoryview, position: int) -> tuple[int, int]:
    """The base-128 integer at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number has too many digits")
