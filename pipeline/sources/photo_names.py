"""Which names are photos of a run: by ending, and by the patterns of a user."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

_IMAGE_SUFFIXES = ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .bmp .dib .gif .tif .tiff .avif .heic .heif"
IMAGE_SUFFIXES = frozenset(_IMAGE_SUFFIXES.split())
# Photos of cameras and programs whose formats are not decoded; files without an ending may be photos as well.
_RAW_SUFFIXES = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .srw .x3f"
)
_OTHER_SUFFIXES = ".jxl .jp2 .j2k .jpf .jpx .jxr .wdp .hdp .bpg .flif .exr .hdr .psd .psb .xcf .svg .eps"
_UNREAD_SUFFIXES = frozenset(f"{_RAW_SUFFIXES} {_OTHER_SUFFIXES}".split())
WITHOUT_ENDING = "without an ending"


def unread_kind(name: str) -> str:
    """Return what a file is told as that may be a photo of a kind that is not decoded; "" for any other."""
    last_part = name[name.rfind("/") + 1 :]
    if "." not in last_part:
        return WITHOUT_ENDING
    suffix = last_part[last_part.rfind(".") :].lower()
    return suffix if suffix in _UNREAD_SUFFIXES else ""


def name_filter(include_patterns: tuple[str, ...], exclude_patterns: tuple[str, ...]) -> Callable[[str, bool], bool]:
    """Return a function that tells of a row name, and of whether it is a folder's (with a slash), if it is wanted."""
    include = pattern_matcher(include_patterns)
    exclude = pattern_matcher(exclude_patterns)

    def has_image_suffix(name: str, is_folder: bool) -> bool:
        return is_folder or name[name.rfind(".") :].lower() in IMAGE_SUFFIXES

    if include is None and exclude is None:
        return has_image_suffix

    def wanted(name: str, is_folder: bool) -> bool:
        if exclude is not None and exclude(name.rstrip("/")):
            return False
        if include is not None:
            return is_folder or include(name)
        return has_image_suffix(name, is_folder)

    return wanted


def pattern_matcher(patterns: tuple[str, ...]) -> Callable[[str], bool] | None:
    """Return a function that tells of a row name whether a shell pattern matches it; None without patterns."""
    if not patterns:
        return None
    whole = [re.compile(fnmatch.translate(pattern)) for pattern in patterns if "/" in pattern]
    last = [re.compile(fnmatch.translate(pattern)) for pattern in patterns if "/" not in pattern]

    def matches(name: str) -> bool:
        last_part = name[name.rfind("/") + 1 :]
        return any(regex.match(name) for regex in whole) or any(regex.match(last_part) for regex in last)

    return matches
