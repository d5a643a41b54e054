"""Models in one cache whose names look alike are built, interrupted, replaced, removed and damaged.

The oracle: a model that can be used has the bytes that were built last under exactly its name; a damaged model is
refused; no file of another model, and no foreign file, changes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobs.workshop.building import _removing_leftovers
from jobs.workshop.verbs.restore import restore_previous
from models.artifact import metadata_of
from models.build_steps import write_artifact
from models.cache import ensure_artifact, ensure_built
from models.errors import LabelDirError
from models.manifest import Manifest, built_models, cache_folder, manifest_path, read_manifest, replace_model
from tests.support.tiny_model import write_tiny_model
from tests.trial.damage import SCRATCH, steps

NAMES = st.sampled_from(["shelf", "shelf-2", "shelf-int8", "Shelf", "shelf.2", "shelf-int8-0123456789ab"])
FOREIGN = ("shelf.txt", "shelf-int8-000000000000.onnx.bak", "shelf-2.onnx", "other-fp32-000000000000.onnx")


class _FailedError(Exception):
    """Ends a build before its model has its manifest."""


class ModelsThatLookAlike(RuleBasedStateMachine):
    """The model: which variant was built last under each name, and which names were damaged since."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="two-models-", dir=SCRATCH))
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("XDG_CACHE_HOME", str(self.folder))
        cache_folder().mkdir(parents=True)
        self.tiny = write_tiny_model(self.folder / "tiny.onnx")
        self.built: dict[str, int] = {}
        self.variants: dict[str, int] = {}
        self.damaged: set[str] = set()
        for name in FOREIGN:
            (cache_folder() / name).write_bytes(b"of another program")

    @rule(name=NAMES, variant=st.integers(0, 2), fails=st.booleans())
    def build(self, name: str, variant: int, fails: bool) -> None:
        try:
            with _removing_leftovers(name):
                int8, fp32 = (
                    write_artifact(cache_folder(), name, precision, self._content(name, precision, variant))
                    for precision in ("int8", "fp32")
                )
                if fails:
                    raise _FailedError
                replace_model(name, Manifest("", int8, fp32, "", ""))
        except _FailedError:
            return
        self.built[name] = self.variants[int8] = variant
        self.damaged.discard(name)

    @rule(name=NAMES)
    def restore(self, name: str) -> None:
        try:
            restored = restore_previous(name, print)
        except LabelDirError:
            return
        self.built[name] = self.variants[restored.path.name]
        self.damaged.discard(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        manifest_path(name).unlink(missing_ok=True)
        self.built.pop(name, None)
        self.damaged.discard(name)

    @rule(name=NAMES, place=st.integers(0, 10**6))
    def damage_the_file(self, name: str, place: int) -> None:
        manifest = read_manifest(name)
        if name in self.built and manifest is not None:
            path = cache_folder() / manifest.int8
            content = bytearray(path.read_bytes()) or bytearray(1)
            content[place % len(content)] ^= 0xFF
            path.write_bytes(content)
            self.damaged.add(name)

    @rule(name=NAMES, other=NAMES)
    def manifest_names_the_files_of_another_model(self, name: str, other: str) -> None:
        if name != other and other in self.built and name in self.built:
            shutil.copy(manifest_path(other), manifest_path(name))
            self.damaged.add(name)

    @rule(name=NAMES, content=st.sampled_from([b"", b"[]", b"[" * 3000, b'{"int8": "../x"}', b"\xff"]))
    def damage_the_manifest(self, name: str, content: bytes) -> None:
        if name in self.built:
            manifest_path(name).write_bytes(content)
            self.damaged.add(name)

    @invariant()
    def each_model_is_what_was_built_under_its_name(self) -> None:
        for name, variant in self.built.items():
            if name in self.damaged:
                with pytest.raises(LabelDirError, match=name.replace(".", r"\.")):
                    ensure_artifact(name, print)
                continue
            manifest = ensure_built(name, print)
            content = (cache_folder() / manifest.int8).read_bytes()
            assert content == self._content(name, "int8", variant)
        intact = set(self.built) - self.damaged
        assert intact <= set(built_models())
        assert all((cache_folder() / name).read_bytes() == b"of another program" for name in FOREIGN)

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    def _content(self, name: str, precision: str, variant: int) -> bytes:
        model = onnx.load(self.tiny.path)
        source = json.dumps({"weights": str(variant), "weights_sha256": "0" * 64})
        entries = {**metadata_of(self.tiny), "name": name, "precision": precision, "source": source}
        onnx.helper.set_model_props(model, entries)
        content: bytes = model.SerializeToString()
        return content


TestModelsThatLookAlike = ModelsThatLookAlike.TestCase
TestModelsThatLookAlike.settings = steps(30, 20)
