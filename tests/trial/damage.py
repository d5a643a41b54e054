"""What a file that is read back may hold instead of what was written: damaged bytes, and values of wrong types.

`TRIAL_SCALE` in the environment multiplies the number of examples; `make faults` sets it.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from pipeline.errors import ExitCode, LabelDirError

SCALE = int(os.environ.get("TRIAL_SCALE", "1"))
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Python calls itself for each level at most a thousand times.
DEEP = 3_000


def examples(count: int) -> settings:
    """Return the settings of a test with `count` examples, the same in every run."""
    return settings(
        max_examples=count * SCALE,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )


def steps(count: int, each: int) -> settings:
    """Return the settings of a state machine: `count` histories of at most `each` steps, the same in every run."""
    return settings(examples(count), stateful_step_count=each)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Return strategies for `content` cut, with bytes changed, repeated or missing, and for bytes of any kind."""
    places = st.integers(0, max(0, len(content) - 1))
    return st.one_of(
        st.binary(max_size=64),
        places.map(lambda end: content[:end]),
        st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=8).map(
            lambda flips: _flipped(content, flips)
        ),
        st.tuples(places, places).map(lambda ends: content[: min(ends)] + content[max(ends) :]),
        st.tuples(places, places).map(lambda ends: content[: max(ends)] + content[min(ends) :]),
        st.tuples(places, st.integers(1, 64)).map(lambda at: content[: at[0]] + bytes(at[1]) + content[sum(at) :]),
        st.binary(max_size=16).map(lambda more: content + more),
    )


def _flipped(content: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, value in flips:
        changed[place] ^= value
    return bytes(changed)


ODD_TEXTS = st.one_of(
    st.sampled_from(
        ["", "\0", "a\0b", "\ud800", "x" * 300, "../../etc", "/", ".", "=1+1", "\x1b[2J", "\u202egnp", "é" * 200]
    ),
    st.sampled_from(["/a\0b", "/\ud800", "/" + "x" * 300]),
    st.text(max_size=8),
)
ODD_NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**18, 10**400, -(10**400)]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 0.5, 1e308, 5e-324]),
)
ODD_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), ODD_NUMBERS, ODD_TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(ODD_TEXTS, inner, max_size=4)),
    max_leaves=6,
)


def odd_json(document: Any) -> st.SearchStrategy[bytes]:
    """Return strategies for the JSON of `document` with some of its values exchanged, dropped or added; or no JSON."""
    valid = json.dumps(document).encode()
    return st.one_of(
        st.lists(st.tuples(st.integers(0, 10**6), ODD_VALUES), min_size=1, max_size=3).map(
            lambda changes: _as_json(_changed(document, changes))
        ),
        ODD_VALUES.map(_as_json),
        damaged(valid),
        st.sampled_from(
            [b"[" * DEEP, b'{"a":' * DEEP, b"\xff\xfe", b"\xef\xbb\xbf" + valid, valid + valid, b"1" * 5000]
        ),
    )


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _changed(document: Any, changes: list[tuple[int, Any]]) -> Any:
    changed = copy.deepcopy(document)
    for number, value in changes:
        places = _places(changed)
        if not places:
            return value
        container, key = places[number % len(places)]
        if number % 7 == 6:
            del container[key]
        else:
            container[key] = value
    return changed


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of `value` with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


def refused(call: Callable[[], object], *also: type[Exception]) -> bool:
    """Tell whether `call` ends with an error for users, or with one of `also`, which its contract names.

    Every other exception is a traceback to a user, and fails the test; so does an error that calls itself a bug, or is
    more than one line.
    """
    try:
        call()
    except LabelDirError as error:
        assert error.exit_code != ExitCode.BUG, error
        assert "\n" not in str(error)
        return True
    except also:
        return True
    return False
