"""When a photo was taken to the second, and by which camera: photos of one camera within seconds are of one burst."""

from __future__ import annotations

import datetime

from PIL import Image

from pipeline.decoding.capture_date import read_exif

_EXIF_FOLDER, _TAKEN, _MAKE, _MODEL = 0x8769, 0x9003, 0x010F, 0x0110


def moment_in_exif(content: bytes) -> tuple[str, float] | None:
    """Return the camera and its clock in seconds from the EXIF data of a photo's bytes; None where it has no time."""
    return read_exif(content, _moment)


def _moment(exif: Image.Exif) -> tuple[str, float]:
    taken = datetime.datetime.strptime(str(exif.get_ifd(_EXIF_FOLDER)[_TAKEN])[:19], "%Y:%m:%d %H:%M:%S")
    camera = f"{exif.get(_MAKE, '')} {exif.get(_MODEL, '')}".strip()
    return camera, taken.replace(tzinfo=datetime.UTC).timestamp()
