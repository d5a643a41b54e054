"""An isolated call: its result, its notices, and a sentence for every way in which it may fail."""

from __future__ import annotations

import os
import signal

import pytest

from models.errors import InputMissingError, LabelDirError, ModelError
from models.system.isolated_call import Notify, isolated_call


def _add(notify: Notify, one: int, other: int) -> tuple[int, int]:
    notify(f"adding {one}")
    return one + other, os.getpid()


def _fail(notify: Notify, kind: str) -> None:
    if kind == "model error":
        raise InputMissingError("no such weights")
    if kind == "error":
        raise ValueError("a bug")
    os.kill(os.getpid(), signal.Signals[kind])


def _call_another(notify: Notify) -> tuple[int, int]:
    return isolated_call(_add, notify, 1, 2)


def test_a_call_returns_its_result_from_another_process_and_tells_notices() -> None:
    notices: list[str] = []
    total, pid = isolated_call(_add, notices.append, 2, other=3)
    assert (total, notices) == (5, ["adding 2"])
    assert pid != os.getpid()


def test_a_call_may_make_calls_of_its_own() -> None:
    notices: list[str] = []
    assert isolated_call(_call_another, notices.append)[0] == 3
    assert notices == ["adding 1"]


@pytest.mark.parametrize(
    ("kind", "error_class", "sentence"),
    [
        ("model error", InputMissingError, "no such weights"),
        ("error", ModelError, "a bug"),
        ("SIGKILL", ModelError, "before its work was done: SIGKILL: killed; out of memory"),
        ("SIGSTOP", ModelError, r"before its work was done: suspended from outside \(SIGSTOP\)"),
    ],
)
def test_every_failure_of_a_call_is_a_model_error(kind: str, error_class: type[LabelDirError], sentence: str) -> None:
    with pytest.raises(error_class, match=sentence):
        isolated_call(_fail, lambda _: None, kind)
