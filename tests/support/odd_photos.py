"""Odd, damaged and malicious photos, made byte by byte; a photo that can be decoded has one colour."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SIZE = (48, 40)


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """Return the bytes of `image`, encoded by Pillow."""
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def plain(format_name: str, colour: tuple[int, int, int] = RED, **options: Any) -> bytes:
    """A photo of one colour."""
    return encoded(Image.new("RGB", SIZE, colour), format_name, **options)


def textured(width: int = 160, height: int = 120) -> Image.Image:
    """A photo without two equal parts."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x * 7 + y * 13) % 256], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def ycck_jpeg() -> bytes:
    """A red CMYK photo as Adobe programs store it: inverted, with the first three planes as YCbCr."""
    inverted = Image.new("RGB", SIZE, (0, 255, 255)).convert("YCbCr")
    planes = [plane.point(lambda value: 255 - value) for plane in inverted.split()]
    content = encoded(Image.merge("CMYK", [*planes, Image.new("L", SIZE, 0)]), "JPEG", quality=95)
    adobe = content.index(b"Adobe")
    return content[: adobe + 11] + b"\2" + content[adobe + 12 :]


def jpeg_with_size(width: int, height: int) -> bytes:
    """A small JPEG whose header promises `width` x `height` pixels."""
    content = plain("JPEG")
    frame = content.index(b"\xff\xc0")
    return content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]


def jpeg_with_segment(marker: int, payload: bytes) -> bytes:
    """A red JPEG with one more segment at its beginning."""
    segment = struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
    content = plain("JPEG")
    return content[:2] + segment + content[2:]


def jpeg_with_16_bit_tables() -> bytes:
    """A red JPEG whose quantisation tables have two bytes an entry."""
    return b"".join(_widened(segment) for segment in _jpeg_segments(plain("JPEG")))


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    yield content[:2]
    offset = 2
    while content[offset + 1] != 0xDA:
        size = 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
        yield content[offset : offset + size]
        offset += size
    yield content[offset:]


def _widened(segment: bytes) -> bytes:
    if segment[:2] != b"\xff\xdb":
        return segment
    tables = b"".join(
        bytes([0x10 | segment[at]]) + b"".join(bytes([0, entry]) for entry in segment[at + 1 : at + 65])
        for at in range(4, len(segment), 65)
    )
    return segment[:2] + (len(tables) + 2).to_bytes(2, "big") + tables


def mpo() -> bytes:
    """Two views of a stereo camera in one file, red and blue."""
    return plain("MPO", save_all=True, append_images=[Image.new("RGB", SIZE, BLUE)])


def damaged_mpo() -> bytes:
    """`mpo()` with an index that points beyond the file."""
    content = mpo()
    index = content.index(b"MPF\0")
    return content[: index + 12] + b"\xff" * 40 + content[index + 52 :]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG of raw scan lines, each with its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_16_bit_rgb() -> bytes:
    """Red with two bytes a sample."""
    return png(40, 40, 16, 2, (b"\0" + b"\xff\xff\0\0\0\0" * 40) * 40)


def png_text_bomb() -> bytes:
    """A red PNG with a comment that inflates to 256 MB."""
    bomb = b"Comment\0\0" + zlib.compress(bytes(256 << 20), 9)
    return png(40, 40, 8, 2, (b"\0" + bytes(RED) * 40) * 40, png_chunk(b"zTXt", bomb))


def png_with_bad_checksum() -> bytes:
    """A red PNG one bit of whose pixel data has flipped."""
    content = bytearray(plain("PNG"))
    content[content.index(b"IDAT") + 20] ^= 1
    return bytes(content)


def transparent_palette_png() -> bytes:
    """Wholly transparent black, which is white on white."""
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return encoded(image, "PNG", transparency=0)


def frames(format_name: str, **options: Any) -> bytes:
    """An animation or a document: first red, then blue, then green."""
    others = [Image.new("RGB", SIZE, colour) for colour in (BLUE, GREEN)]
    return plain(format_name, save_all=True, append_images=others, **options)


def tiff_with_loop() -> bytes:
    """A red TIFF whose last page refers to the first page as the next."""
    content = bytearray(plain("TIFF"))
    directory = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[directory : directory + 2], "little")
    next_at = directory + 2 + 12 * count
    content[next_at : next_at + 4] = content[4:8]
    return bytes(content)


def float_tiff(value: float) -> bytes:
    """Grey as floats from 0 to 1."""
    return encoded(Image.fromarray(np.full((40, 48), value, np.float32)), "TIFF")


def deep_grey_png(value: int) -> bytes:
    """16-bit grey."""
    return encoded(Image.fromarray(np.full((40, 48), value, np.uint16)), "PNG")


def heic() -> bytes:
    """The first bytes of a HEIC photo, as telephones write it."""
    return struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)


def bmp_with_bad_header() -> bytes:
    """A BMP with a header size that does not exist."""
    content = bytearray(plain("BMP"))
    content[14:18] = (41).to_bytes(4, "little")
    return bytes(content)
