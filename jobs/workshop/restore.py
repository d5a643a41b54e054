"""What `label-models restore` does: the model that was built before under a name takes its place again."""

from __future__ import annotations

from dataclasses import replace

from models.artifact import Artifact
from models.cache import verified_artifact
from models.errors import InputMissingError
from models.manifest import Manifest, cache_folder, checked_name, read_manifest, write_manifest
from models.model_lock import model_lock
from models.system.isolated_call import Notify


def replaced_notice(name: str, replaced: Manifest) -> str:
    """Return the sentence that tells of a replaced model and of the way back."""
    return (
        f"the model {name} that was built before ({replaced.int8}) is replaced and kept: label-models restore {name} "
        "exchanges the two"
    )


def restore_previous(name: str, notify: Notify) -> Artifact:
    """Exchange a model and the one that was built before under its name; return the int8 artifact that is in place.

    Raises:
        UsageError: no model can have this name.
        InputMissingError: no such model is kept, or its files are damaged or missing.
        OutputError: the cache cannot be written.
    """
    checked_name(name)
    with model_lock(name, notify):
        manifest = read_manifest(name)
        if manifest is None or manifest.previous is None:
            raise InputMissingError(f"no model {name} from before the last build is kept")
        previous = manifest.previous
        for precision in ("int8", "fp32"):
            verified_artifact(name, previous, precision)
        if missing := sorted(file for file in previous.files if not (cache_folder() / file).is_file()):
            raise InputMissingError(f"the model {name} from before the last build lacks {', '.join(missing)}")
        write_manifest(name, replace(previous, previous=replace(manifest, previous=None)))
        return verified_artifact(name, previous, "int8")
