"""The verb `restore` of `label-models`: the model that was built before under a name takes its place again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from jobs.workshop.verbs.shared import examples, notify

if TYPE_CHECKING:
    from models.artifact import Artifact
    from models.system.isolated_call import Notify


@click.command(epilog=examples("label-models restore shelf"))
@click.argument("name")
def restore(name: str) -> None:
    """Exchange the model NAME and the one that was built before under this name."""
    from jobs.cli.standard_streams import print_text

    print_text(f"{name} is {restore_previous(name, notify).model_id} again")


def restore_previous(name: str, notify: Notify) -> Artifact:
    """Exchange a model and the one that was built before under its name; return the int8 artifact that is in place.

    Raises:
        UsageError: no model can have this name.
        InputMissingError: no such model is kept, or its files are damaged or missing.
        OutputError: the cache cannot be written.
    """
    from models.cache import verified_artifact
    from models.errors import InputMissingError
    from models.manifest import cache_folder, checked_name, read_manifest, write_manifest
    from models.model_lock import model_lock

    checked_name(name)
    with model_lock(name, notify):
        manifest = read_manifest(name)
        if manifest is None or manifest.previous is None:
            raise InputMissingError(f"no model {name} from before the last build is kept")
        previous = manifest.previous
        int8, _ = (verified_artifact(name, previous, precision) for precision in ("int8", "fp32"))
        if missing := sorted(file for file in previous.files if not (cache_folder() / file).is_file()):
            raise InputMissingError(f"the model {name} from before the last build lacks {', '.join(missing)}")
        write_manifest(name, replace(previous, previous=replace(manifest, previous=None)))
        return int8
