"""What a watch-folder keeps beside its labels: the lock, the index of the rows, and the status file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.append_dataset import INDEX_NAME
from pipeline.sources.file_names import display_name
from pipeline.system.file_lock import StateFolder, held, held_state
from pipeline.system.ownership import Owner
from pipeline.tables.part_store import state_folder

_KIND = "state of watched labels"
STATUS_NAME = "status.json"
# Where earlier versions kept the state, and what they kept there.
_STATE_INSIDE = ".watch-folder"
_INDEX_NAMES = (INDEX_NAME, f"{INDEX_NAME}-wal", f"{INDEX_NAME}-shm")
_INSIDE_NAMES = (*_INDEX_NAMES, STATUS_NAME, f".{STATUS_NAME}.tmp")


@contextlib.contextmanager
def locked_state(folder: Path) -> Iterator[Path]:
    """Hold the state folder of the labels in `folder`, beside them: readers glob what is inside them.

    The state that an earlier version kept inside is removed; all of it is derived from the labels.

    Raises:
        NotOursError: the state folder is not ours.
        LockedError: another process writes these labels.
        OSError: the folders cannot be made or written.
    """
    labels = folder.resolve()
    owner = Owner(_KIND, display_name(labels.name))
    with held_state(StateFolder(state_folder(labels), owner, _is_state), str(folder)) as state:
        if not folder.exists():
            folder.mkdir(parents=True)
            # What is known of labels that were removed as a whole.
            for name in _INDEX_NAMES:
                (state / name).unlink(missing_ok=True)
        inside = folder / _STATE_INSIDE
        if inside.is_dir() and not inside.is_symlink():
            # A process of an earlier version would hold this lock; its end removes the empty folder.
            with held(inside / "lock", str(folder)):
                for name in _INSIDE_NAMES:
                    (inside / name).unlink(missing_ok=True)
        yield state


def _is_state(name: str) -> bool:
    return name in (*_INDEX_NAMES, STATUS_NAME) or name.startswith(f".{STATUS_NAME}.")
