"""A file's name in the table is valid text, unlike any other file's, and leads back to the file."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.file_names import display_name, file_system_name

RAW_NAMES = st.binary(min_size=1, max_size=40).filter(lambda raw: not {0, ord("/")} & set(raw))
TRICKY = st.text(alphabet=st.sampled_from("\\x5ce9é\n"), min_size=1, max_size=12).map(str.encode)


@settings(derandomize=True, deadline=None)
@given(RAW_NAMES | TRICKY)
def test_a_name_leads_back_to_its_file(raw: bytes) -> None:
    shown = display_name(os.fsdecode(raw))
    assert shown.encode().decode() == shown
    assert os.fsencode(file_system_name(shown)) == raw


@settings(derandomize=True, deadline=None)
@given(TRICKY, TRICKY)
def test_two_files_never_share_a_name(one: bytes, other: bytes) -> None:
    assert (one == other) == (display_name(os.fsdecode(one)) == display_name(os.fsdecode(other)))
