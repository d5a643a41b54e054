"""FileRef -> uint8 pixels | ItemError; the only file that opens an image."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.decoding.decode_rules import DecodeRules
from pipeline.decoding.image_format import ends_early, sniff
from pipeline.decoding.resize import centre_square
from pipeline.decoding.turbo_jpeg import sound_jpeg_pixels
from pipeline.records import ErrorClass, FileRef, ItemError, PhotoFacts
from pipeline.sources.read_file import FileBytes, read_file

# ReadLimits.pixels is checked against the header instead; Pillow's own limit would refuse large sound photos.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION_TAG = 0x0112
# How a stored photo becomes upright: rows and columns swapped, then rows reversed, then columns reversed.
_SIDEWAYS = frozenset({5, 6, 7, 8})
_UPSIDE_DOWN = frozenset({3, 4, 7, 8})
_MIRRORED = frozenset({2, 3, 6, 7})
# With less to spare, photos enlarged to 12 megapixels change 4% of their labels instead of 1%.
_DRAFT_MARGIN = 1.5
_BACKGROUND = (255, 255, 255, 255)
_SIXTEEN_BIT = 65535.0


# A format that Pillow does not decode by itself -> the package that does.
_PLUGINS = {"HEIF": "pillow-heif"}


def decode_file(ref: FileRef, rules: DecodeRules, pixels: NDArray[np.uint8]) -> PhotoFacts | ItemError:
    """Read and decode `ref` into `pixels` (uint8 [crop_size, crop_size, 3], RGB); return its facts or the error.

    The photo is turned upright by its EXIF orientation, scaled so that its shortest side is `resize_size`, and
    cropped at the centre, in one resampling step. No content of a file raises an exception.
    """
    return decode_found(read_file(ref.path, rules.limits), rules, pixels)


def decode_found(found: FileBytes | ItemError, rules: DecodeRules, pixels: NDArray[np.uint8]) -> PhotoFacts | ItemError:
    """Decode what was read of a file, as `decode_file` does; an error stays as it is."""
    if isinstance(found, ItemError):
        return found
    size = decode_bytes(found.content, rules, pixels)
    if isinstance(size, ItemError):
        return size
    return _facts(found, size)


def decode_bytes(content: bytes, rules: DecodeRules, pixels: NDArray[np.uint8]) -> tuple[int, int] | ItemError:
    """Decode `content` into `pixels`; return width and height of the upright photo, or the reason why not."""
    format_name, allowed = sniff(content)
    if format_name is None:
        return ItemError(ErrorClass.NOT_AN_IMAGE, "the content is no picture of a known format")
    if not allowed:
        return ItemError(ErrorClass.UNSUPPORTED_FORMAT, f"{format_name} is not among the formats that are decoded")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(content, format_name, rules, pixels)
    except MemoryError:
        return ItemError(ErrorClass.TOO_LARGE, "decoding needs more memory than a decoder may have")
    except Exception as error:  # decoders raise errors of any class
        return _decoder_error(error, format_name, content)


def _decode(
    content: bytes, format_name: str, rules: DecodeRules, pixels: NDArray[np.uint8]
) -> tuple[int, int] | ItemError:
    if not _has_decoder(format_name):
        return ItemError(
            ErrorClass.UNSUPPORTED_FORMAT,
            f"{format_name} is decoded by {_PLUGINS.get(format_name, 'a Pillow plugin')}, which is not installed",
        )
    with Image.open(io.BytesIO(content), formats=(format_name,)) as image:
        width, height = image.size
        if width * height > rules.limits.pixels:
            return ItemError(ErrorClass.TOO_LARGE, f"{width} x {height} pixels, the limit is {rules.limits.pixels}")
        if width < 1 or height < 1:
            return ItemError(ErrorClass.DECODE, f"{width} x {height} pixels")
        if rules.scaled_decoding:
            side = int(rules.crop.resize_size * _DRAFT_MARGIN)
            image.draft("RGB", (side, side))
        is_plain_jpeg = format_name == "JPEG" and rules.resize is None
        photo: Image.Image | NDArray[np.uint8] | None = sound_jpeg_pixels(content, image) if is_plain_jpeg else None
        if photo is None:
            image.load()
            photo = _to_rgb(image)
        if format_name != "JPEG":
            # TIFF and HEIF decoders turn the picture on loading; only a JPEG may be loaded smaller than it is.
            width, height = image.size
        # Not before load(): getexif() loads some formats, and after a load that failed the next load returns half grey.
        orientation = _orientation(image)
        pixels[...] = _square(photo, rules, orientation)
    return (height, width) if orientation in _SIDEWAYS else (width, height)


def _has_decoder(format_name: str) -> bool:
    if format_name not in Image.OPEN:
        Image.init()
        with contextlib.suppress(ImportError):
            importlib.import_module("pillow_heif").register_heif_opener()
    return format_name in Image.OPEN


def _square(photo: Image.Image | NDArray[np.uint8], rules: DecodeRules, orientation: int) -> NDArray[np.uint8]:
    """Resize, crop and turn: turning the small square is cheapest, and of a centred crop gives the same pixels."""
    if rules.resize is not None and isinstance(photo, Image.Image):
        square = rules.resize(photo, rules.crop)
    else:
        square = centre_square(photo, rules.crop)
    if orientation in _SIDEWAYS:
        square = square.swapaxes(0, 1)
    if orientation in _UPSIDE_DOWN:
        square = square[::-1]
    return square[:, ::-1] if orientation in _MIRRORED else square


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        photo = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", photo.size, _BACKGROUND), photo).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey to 8 bits without clipping: by 65535, by 1, or by its own extremes."""
    values = np.asarray(image, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    full = 1.0 if image.mode == "F" else _SIXTEEN_BIT
    if low >= 0.0 and high <= full:
        low, high = 0.0, full
    grey = ((values - low) * (255.0 / (high - low)) + 0.5).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _decoder_error(error: Exception, format_name: str, content: bytes) -> ItemError:
    reason = str(error)
    early = ends_early(format_name, content)
    if "truncated" in reason.lower() or isinstance(error, EOFError) or early:
        return ItemError(ErrorClass.TRUNCATED, f"the {format_name} data ends before the picture does")
    if isinstance(error, UnidentifiedImageError):
        reason = "the header is damaged, or of a kind that is not decoded"
    return ItemError(ErrorClass.DECODE, f"{format_name}: {reason or type(error).__name__}"[:200])


def _facts(found: FileBytes, size: tuple[int, int]) -> PhotoFacts:
    digest = hashlib.sha256(found.content).digest()
    return PhotoFacts(size[0], size[1], len(found.content), found.mtime_us, digest, found.etag)
