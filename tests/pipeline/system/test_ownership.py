"""A folder or lock is used only where it is provably ours (case 17)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import LockedError
from pipeline.system.file_lock import StateFolder, held, held_state
from pipeline.system.ownership import MARKER_NAME, NotOursError, Owner, claim_folder, owner_of

OWNER = Owner("state of a table", "out.csv")


def state_at(path: Path) -> StateFolder:
    """Return a state folder that may hold files named part-*."""
    return StateFolder(path, OWNER, lambda name: name.startswith("part-"))


def test_a_claimed_folder_is_private_and_says_whose_it_is(tmp_path: Path) -> None:
    claim_folder(tmp_path / "state", OWNER)
    claim_folder(tmp_path / "state", OWNER)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert owner_of(tmp_path / "state") == OWNER


def test_an_empty_folder_is_taken_over_and_another_owners_is_not(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    claim_folder(tmp_path / "state", OWNER)
    with pytest.raises(NotOursError, match=r"is the state of a table of out\.csv, not the state of a table of b"):
        claim_folder(tmp_path / "state", Owner(OWNER.kind, "b"))
    with pytest.raises(NotOursError, match="not the dataset of"):
        claim_folder(tmp_path / "state", Owner("dataset", OWNER.of))


@pytest.mark.parametrize(
    "marker",
    ["", "[]", "{", "null", '{"label_dir": 1, "of": "x"}', '{"label_dir": "x"}', "[" * 5000, '"\\ud800"', "\xff"],
)
def test_a_folder_with_files_and_no_whole_marker_is_left_alone(tmp_path: Path, marker: str) -> None:
    (tmp_path / "diary.txt").touch()
    (tmp_path / MARKER_NAME).write_bytes(marker.encode("latin-1"))
    with pytest.raises(NotOursError, match="is not ours; move it away"):
        claim_folder(tmp_path, OWNER)
    assert sorted(os.listdir(tmp_path)) == ["diary.txt", MARKER_NAME]


def test_a_marker_that_is_a_link_or_a_fifo_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").touch()
    os.mkfifo(tmp_path / MARKER_NAME)
    with pytest.raises(NotOursError):
        claim_folder(tmp_path, OWNER)
    (tmp_path / MARKER_NAME).unlink()
    (tmp_path / "real").write_text(json.dumps({"label_dir": OWNER.kind, "of": OWNER.of}))
    (tmp_path / MARKER_NAME).symlink_to("real")
    with pytest.raises((NotOursError, OSError)):
        claim_folder(tmp_path, OWNER)


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to("real")
    with pytest.raises(NotOursError, match="is a link or a file, not a folder"):
        claim_folder(tmp_path / "state", OWNER)
    with pytest.raises(NotOursError, match="is a link or a file, not a folder"), held(tmp_path / "state" / "lock", "x"):
        pass
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 12345, -1)
    with (
        pytest.raises(NotOursError, match=r"belongs to another user \(uid 12345\)"),
        held_state(state_at(tmp_path / "state"), "x"),
    ):
        pass
    assert list((tmp_path / "state").iterdir()) == []


def test_a_folder_of_this_user_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    claim_folder(tmp_path / "state", OWNER)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o755


def test_a_lock_that_is_a_link_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(NotOursError, match="so it is no lock of ours; remove it"), held(tmp_path / "state/lock", "x"):
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"
    (tmp_path / "state" / "lock").unlink()
    os.mkfifo(tmp_path / "state" / "lock")
    with pytest.raises(NotOursError, match="so it is no lock of ours; remove it"), held(tmp_path / "state/lock", "x"):
        pass


def test_a_state_folder_is_marked_while_it_is_held_and_gone_after(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state")
    with held_state(state, "out.csv"):
        assert owner_of(state.path) == OWNER
        with pytest.raises(LockedError), held_state(state, "out.csv"):
            pass
        assert owner_of(state.path) == OWNER
    assert not state.path.exists()


def test_a_state_folder_with_parts_keeps_its_marker(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state")
    with held_state(state, "out.csv"):
        (state.path / "part-1").touch()
    assert sorted(os.listdir(state.path)) == [MARKER_NAME, "part-1"]
    with held_state(state, "out.csv"):
        (state.path / "part-1").unlink()
    assert not state.path.exists()


def test_a_state_folder_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state")
    state.path.mkdir()
    for name in ("part-1", "lock"):
        (state.path / name).touch()
    with held_state(state, "out.csv"):
        assert owner_of(state.path) == OWNER


def test_a_folder_of_something_else_gets_no_lock(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state")
    state.path.mkdir()
    (state.path / "diary.txt").touch()
    with pytest.raises(NotOursError, match="is not ours; move it away"), held_state(state, "out.csv"):
        pass
    assert os.listdir(state.path) == ["diary.txt"]


def test_a_state_folder_that_is_exchanged_for_a_link_while_it_is_held_leads_nowhere_else(tmp_path: Path) -> None:
    """Case 17: root writes a table into a folder of another user, who may rename what lies in it."""
    (tmp_path / "victim").mkdir()
    for name in ("lock", "part-1", MARKER_NAME):
        (tmp_path / "victim" / name).write_bytes(b"precious")
    state = state_at(tmp_path / "state")
    with held_state(state, "out.csv") as folder:
        state.path.rename(tmp_path / "moved")
        state.path.symlink_to(tmp_path / "victim")
        (folder / "part-1").write_bytes(b"a row")
        (folder / "part-1").unlink()
    assert {path.read_bytes() for path in (tmp_path / "victim").iterdir()} == {b"precious"}
    assert len(list((tmp_path / "victim").iterdir())) == 3
    assert list((tmp_path / "moved").iterdir()) == []
