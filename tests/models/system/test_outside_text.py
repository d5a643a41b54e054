"""Text from outside reaches no path, terminal or spreadsheet as anything but text."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.system.outside_text import (
    FORMULA_PATTERN,
    GUARDED_FORMULA_PATTERN,
    csv_text,
    from_csv_text,
    is_path_part,
    is_sha256,
    terminal_text,
)

FORMULA_LIKE = st.text(st.sampled_from("'=+-@\t\r\n a1"), max_size=8) | st.text(max_size=20)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=40))
def test_nothing_that_is_printed_steers_a_terminal(text: str) -> None:
    shown = terminal_text(text)
    assert not [letter for letter in shown if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert terminal_text(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", ["Zürich, 猫 and 🐈", "holiday photo 1.jpg"])
def test_ordinary_text_is_printed_as_it_is(text: str) -> None:
    assert terminal_text(text) == text


@pytest.mark.parametrize("text", ["=1+1", "-rf", "@sum", "+1", "\tx", "'=1", "''=1"])
def test_a_formula_in_a_cell_begins_with_an_apostrophe(text: str) -> None:
    assert csv_text(text) == f"'{text}"


@settings(derandomize=True, deadline=None)
@given(FORMULA_LIKE)
def test_a_cell_is_read_as_it_was_before_it_was_written(text: str) -> None:
    assert not csv_text(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv_text(csv_text(text)) == text


@settings(derandomize=True, deadline=None)
@given(st.lists(FORMULA_LIKE, min_size=1, max_size=5))
def test_arrow_guards_a_column_as_python_guards_a_cell(texts: list[str]) -> None:
    guarded = pc.replace_substring_regex(pa.array(texts, pa.string()), FORMULA_PATTERN, r"'\1")
    assert guarded.to_pylist() == [csv_text(text) for text in texts]
    assert pc.replace_substring_regex(guarded, GUARDED_FORMULA_PATTERN, r"\1").to_pylist() == texts


@pytest.mark.parametrize(
    "text", ["", None, "ab", "../../" + "a" * 58, "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "٣" * 64]
)
def test_only_64_hexadecimal_digits_are_a_sha256(text: str | None) -> None:
    assert not is_sha256(text)
    assert is_sha256("0123456789abcdef" * 4)


@pytest.mark.parametrize("text", ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a\n", "a b", "é", "a" * 101, "a\0b"])
def test_what_leaves_a_folder_or_reads_as_an_option_is_no_part_of_a_path(text: str) -> None:
    assert not is_path_part(text)


@pytest.mark.parametrize("text", ["shelf-2", "efficientnet_lite0", "v1.5", "a" * 100])
def test_a_plain_name_is_a_part_of_a_path(text: str) -> None:
    assert is_path_part(text)
