"""The key of what builds a model: a change of anything that decides a model's bytes builds the model again."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from models.manifest import BUILDER_FILES, BUILDER_FOLDERS, PACKAGE, recipe_key

MODEL = "efficientnet_lite0"
# The build imports these too. They choose names, files and processes, check, or hold types; they write no bytes.
DECIDE_NO_BYTES = {"certification", "classifier.py", "errors.py", "manifest.py", "system"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package `models` that a test may change."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("folder", [*BUILDER_FOLDERS, *(f"{folder}/deeper" for folder in BUILDER_FOLDERS)])
def test_a_new_file_in_a_folder_that_builds_models_changes_the_key(package: Path, folder: str) -> None:
    before = recipe_key(MODEL, package)
    (package / folder).mkdir(exist_ok=True)
    (package / folder / "new.py").touch()
    assert recipe_key(MODEL, package) != before


@pytest.mark.parametrize(
    "name", [*BUILDER_FILES, "networks/graph.py", "data/imagenet.txt", f"data/{MODEL}.calibration.json"]
)
def test_an_edit_to_what_decides_the_bytes_changes_the_key(package: Path, name: str) -> None:
    before = recipe_key(MODEL, package)
    with (package / name).open("a") as stream:
        stream.write("\n")
    assert recipe_key(MODEL, package) != before


def test_a_renamed_file_changes_the_key(package: Path) -> None:
    before = recipe_key(MODEL, package)
    (package / "networks/graph.py").rename(package / "networks/onnx_graph.py")
    assert recipe_key(MODEL, package) != before


def test_a_file_that_builds_nothing_leaves_built_models_alone(package: Path) -> None:
    before = recipe_key(MODEL, package)
    (package / "certification/new.py").touch()
    (package / "cache.py").write_text("")
    (package / "data/efficientnet_lite1.calibration.json").write_text("{}")
    assert recipe_key(MODEL, package) == before


def test_the_key_covers_every_module_that_the_build_imports_and_that_decides_bytes() -> None:
    covered = {*BUILDER_FOLDERS, *BUILDER_FILES}
    imported, unread = set[Path](), {PACKAGE / "build_steps.py"}
    while unread:
        imported |= unread
        unread = {file for path in unread for file in _imports(path)} - imported
    places = {path.relative_to(PACKAGE).parts[0] for path in imported}
    assert covered <= places
    assert places - covered == DECIDE_NO_BYTES


def _imports(path: Path) -> list[Path]:
    """The files in `models` that a file imports."""
    names = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return [
        file
        for name in names
        if (file := PACKAGE.parent / f"{name.replace('.', '/')}.py").is_relative_to(PACKAGE) and file.is_file()
    ]
