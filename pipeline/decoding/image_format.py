"""The format of a picture from its first bytes, never from its name."""

from __future__ import annotations

_ALLOWED_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_REFUSED_STARTS = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "PSD"),
    (b"SIMPLE  =", "FITS"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"IIRO", "raw photo"),
    (b"FUJIFILM", "raw photo"),
    (b"<svg", "SVG"),
)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def sniff(content: bytes) -> tuple[str | None, bool]:
    """Return the name of the format that `content` begins like (None: no picture), and whether it is decoded."""
    for start, name in _ALLOWED_STARTS:
        if content.startswith(start):
            return name, True
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP", True
    if content[4:8] == b"ftyp":
        if content[8:12] in _AVIF_BRANDS:
            return "AVIF", True
        return ("HEIF", True) if content[8:12] in _HEIF_BRANDS else ("ISO media", False)
    for start, name in _REFUSED_STARTS:
        if content.startswith(start):
            return name, False
    if b"<svg" in content[:512]:
        return "SVG", False
    return None, False


def ends_early(format_name: str, content: bytes) -> bool:
    """Tell whether the end mark of this format is missing."""
    if format_name == "JPEG":
        return b"\xff\xd9" not in content[-4096:]
    if format_name == "PNG":
        return b"IEND" not in content[-4096:]
    if format_name == "GIF":
        return b"\x3b" not in content[-64:]
    if format_name == "WEBP":
        return len(content) < int.from_bytes(content[4:8], "little") + 8
    if format_name == "BMP":
        return len(content) < int.from_bytes(content[2:6], "little")
    return len(content) < 64
