"""When a photo was taken to the second, and by which camera: what tells that photos are of one burst."""

from __future__ import annotations

import datetime
import io
import warnings

from PIL import Image

from pipeline.decoding.image_format import sniff

_EXIF_FOLDER, _TAKEN, _MAKE, _MODEL = 0x8769, 0x9003, 0x010F, 0x0110


def moment_in_exif(content: bytes) -> tuple[str, float] | None:
    """Return the camera and its clock in seconds from the EXIF data of a photo's bytes; None where it has no time."""
    format_name, is_allowed = sniff(content)
    if format_name is None or not is_allowed:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=(format_name,)) as image:
                exif = image.getexif()
                taken = datetime.datetime.strptime(str(exif.get_ifd(_EXIF_FOLDER)[_TAKEN])[:19], "%Y:%m:%d %H:%M:%S")
                camera = f"{exif.get(_MAKE, '')} {exif.get(_MODEL, '')}".strip()
                return camera, taken.replace(tzinfo=datetime.UTC).timestamp()
    except Exception:
        # EXIF is a parser of its own with failures of its own; the photo has just no moment.
        return None
