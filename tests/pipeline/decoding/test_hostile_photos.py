"""Odd and damaged photos: each gets its true label, or an error row with the class of the reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from models.artifact import Artifact
from models.spec import Crop
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.records import ErrorClass, ItemError
from pipeline.sources.read_file import ReadLimits
from tests.conftest import run_label_dir
from tests.support import odd_photos as odd

RULES = DecodeRules(Crop(32, 32, "bilinear"), ReadLimits())
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'

# name -> (content, the label or the error class it must get)
PHOTOS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg.jpg": (lambda: odd.plain("JPEG"), "red"),
    "jpeg progressive.jpg": (lambda: odd.plain("JPEG", progressive=True), "red"),
    "jpeg grey.jpg": (lambda: odd.encoded(Image.new("L", odd.SIZE, 255), "JPEG"), "white"),
    "jpeg cmyk.jpg": (lambda: odd.encoded(Image.new("CMYK", odd.SIZE, (0, 255, 255, 0)), "JPEG"), "red"),
    "jpeg ycck.jpg": (odd.ycck_jpeg, "red"),
    "jpeg exif corrupt.jpg": (lambda: odd.jpeg_with_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + b"x" * 99), "red"),
    "jpeg exif empty.jpg": (lambda: odd.jpeg_with_segment(0xE1, b"Exif\0\0"), "red"),
    "jpeg icc huge.jpg": (lambda: odd.plain("JPEG", icc_profile=bytes(8 << 20)), "red"),
    "jpeg icc bad.jpg": (lambda: odd.jpeg_with_segment(0xE2, b"ICC_PROFILE\0\xff\0nonsense"), "red"),
    "jpeg mpo.jpg": (odd.mpo, "red"),
    "jpeg mpo bad.jpg": (odd.damaged_mpo, "red"),
    "jpeg 65500 x 65500.jpg": (lambda: odd.jpeg_with_size(65500, 65500), "too_large"),
    "jpeg 16-bit tables.jpg": (odd.jpeg_with_16_bit_tables, "red"),
    "jpeg trailing junk.jpg": (lambda: odd.plain("JPEG") + b"junk" * 9999, "red"),
    "jpeg truncated.jpg": (lambda: odd.encoded(odd.textured(), "JPEG")[:-300], "truncated"),
    "jpeg progressive truncated.jpg": (
        lambda: odd.encoded(odd.textured(), "JPEG", progressive=True)[:-300],
        "truncated",
    ),
    "jpeg header only.jpg": (lambda: odd.plain("JPEG")[:12], "truncated"),
    "html.jpg": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
    "noise.jpg": (lambda: bytes(range(17, 250)) * 20, "not_an_image"),
    "one byte.jpg": (lambda: b"\xff", "not_an_image"),
    "png named.jpg": (lambda: odd.plain("PNG"), "red"),
    "jpeg named.png": (lambda: odd.plain("JPEG"), "red"),
    "png pixel bomb.png": (lambda: odd.png(50_000, 50_000, 8, 2, b""), "too_large"),
    "png text bomb.png": (odd.png_text_bomb, "decode"),
    "png bad checksum.png": (odd.png_with_bad_checksum, "decode"),
    "png truncated.png": (lambda: odd.encoded(odd.textured(), "PNG")[:-900], "truncated"),
    "png 16-bit rgb.png": (odd.png_16_bit_rgb, "red"),
    "png 16-bit grey light.png": (lambda: odd.deep_grey_png(60_000), "white"),
    "png 16-bit grey dark.png": (lambda: odd.deep_grey_png(5_000), "black"),
    "png transparent palette.png": (odd.transparent_palette_png, "white"),
    "png palette.png": (lambda: odd.encoded(Image.new("RGB", odd.SIZE, odd.RED).quantize(4), "PNG"), "red"),
    "png alpha.png": (lambda: odd.encoded(Image.new("RGBA", odd.SIZE, (0, 0, 0, 0)), "PNG"), "white"),
    "png one bit.png": (lambda: odd.encoded(Image.new("1", odd.SIZE, 1), "PNG"), "white"),
    "apng.png": (lambda: odd.frames("PNG"), "red"),
    "gif animated.gif": (lambda: odd.frames("GIF"), "red"),
    "gif zero width.gif": (lambda: b"GIF89a\0\0\x10\0\0\0\0" + b",\0\0\0\0\0\0\x10\0\0\2\0\0;", "decode"),
    "gif bomb.gif": (lambda: b"GIF89a\xff\xff\xff\xff\0\0\0" + b",\0\0\0\0\xff\xff\xff\xff\0\2\0\0;", "too_large"),
    "webp.webp": (lambda: odd.plain("WEBP"), "red"),
    "webp animated.webp": (lambda: odd.frames("WEBP"), "red"),
    "webp truncated.webp": (lambda: odd.encoded(odd.textured(), "WEBP")[:-200], "truncated"),
    "tiff multi-page.tif": (lambda: odd.frames("TIFF"), "red"),
    "tiff loop.tif": (odd.tiff_with_loop, "red"),
    "tiff float light.tif": (lambda: odd.float_tiff(0.95), "white"),
    "tiff float dark.tif": (lambda: odd.float_tiff(0.05), "black"),
    "tiff float not a number.tif": (lambda: odd.float_tiff(float("nan")), "black"),
    "tiff truncated.tif": (lambda: odd.encoded(odd.textured(), "TIFF")[:200], "truncated"),
    "bmp.bmp": (lambda: odd.plain("BMP"), "red"),
    "bmp bad header.bmp": (odd.bmp_with_bad_header, "decode"),
    "heic.heic": (odd.heic, "unsupported_format"),
    "svg.jpg": (lambda: SVG, "unsupported_format"),
    "pdf.jpg": (lambda: b"%PDF-1.7\n" + bytes(99), "unsupported_format"),
    "eps.jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(99), "unsupported_format"),
    "psd.jpg": (lambda: b"8BPS\0\1" + bytes(99), "unsupported_format"),
    "fits.jpg": (lambda: b"SIMPLE  =                    T" + bytes(99), "unsupported_format"),
    "ico.png": (lambda: odd.plain("ICO"), "unsupported_format"),
    "jpeg 2000.jpg": (lambda: odd.plain("JPEG2000"), "unsupported_format"),
    "1 x 1.png": (lambda: odd.encoded(Image.new("RGB", (1, 1), odd.RED), "PNG"), "red"),
    "1 x 30000.png": (lambda: odd.encoded(Image.new("RGB", (1, 30_000), odd.RED), "PNG"), "red"),
    "30000 x 1.png": (lambda: odd.encoded(Image.new("RGB", (30_000, 1), odd.RED), "PNG"), "red"),
}
if features.check("avif"):
    PHOTOS["avif.avif"] = (lambda: odd.plain("AVIF"), "red")
ERROR_CLASSES = frozenset(ErrorClass)


@pytest.fixture(scope="module")
def rows(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    home = tmp_path_factory.mktemp("odd")
    (home / "photos").mkdir()
    for name, (content, _) in PHOTOS.items():
        (home / "photos" / name).write_bytes(content())
    done = run_label_dir(tiny_model, home / "photos", home / "out.parquet")
    assert done.returncode == 3, done.stderr
    assert "restarted" not in done.stderr
    return pd.read_parquet(home / "out.parquet").set_index("file_name")


@pytest.mark.parametrize("name", [name for name, (_, result) in PHOTOS.items() if result not in ERROR_CLASSES])
def test_is_labelled_right(rows: pd.DataFrame, name: str) -> None:
    assert rows.at[name, "status"] == "ok"
    assert rows.at[name, "label_1"] == PHOTOS[name][1]


@pytest.mark.parametrize("name", [name for name, (_, result) in PHOTOS.items() if result in ERROR_CLASSES])
def test_gets_an_error_row(rows: pd.DataFrame, name: str) -> None:
    assert str(rows.at[name, "error"]).startswith(f"{PHOTOS[name][1]}: ")
    assert rows.loc[name, ["label_1", "prob_1", "width", "sha256"]].isna().all()


def _decoded(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | ItemError:
    pixels = np.zeros((32, 32, 3), np.uint8)
    found = decode_bytes(content, RULES, pixels)
    return found if isinstance(found, ItemError) else pixels


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
def test_no_half_jpeg_is_ever_labelled(options: dict[str, bool]) -> None:
    content = odd.encoded(odd.textured(), "JPEG", **options)
    whole = _decoded(content)
    assert not isinstance(whole, ItemError)
    for stop in range(16, len(content), 16):
        part = _decoded(content[:stop])
        if isinstance(part, ItemError):
            assert part.error_class is ErrorClass.TRUNCATED, stop
        else:
            # Only the mark of the end may be missing.
            assert stop >= len(content) - 2
            assert np.array_equal(part, whole)


@pytest.mark.parametrize("format_name", ["PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_no_half_photo_of_another_format_is_ever_labelled(format_name: str) -> None:
    content = odd.encoded(odd.textured(64, 48), format_name)
    whole = _decoded(content)
    assert not isinstance(whole, ItemError)
    for stop in range(1, len(content), max(1, len(content) // 150)):
        part = _decoded(content[:stop])
        assert isinstance(part, ItemError) or np.array_equal(part, whole), stop


SEEDS = [odd.encoded(odd.textured(48, 40), name) for name in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=20),
    kept=st.floats(0.05, 1),
)
def test_decoding_any_bytes_gives_pixels_or_a_reason(seed: bytes, flips: list[tuple[float, int]], kept: float) -> None:
    content = bytearray(seed[: max(1, int(len(seed) * kept))])
    for place, mask in flips:
        content[int(place * len(content))] ^= mask
    found = _decoded(bytes(content))
    assert not isinstance(found, ItemError) or found.reason
