"""The manual says what is there: its links, paths, options, error classes and exit codes are compared with the code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from jobs.nightly.job import Job, Task
from pipeline.errors import ExitCode
from pipeline.records import ErrorClass

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "models", "jobs")
CODE_SUFFIXES = {".py", ".js", ".css", ".jinja"}
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
REFERENCE = ROOT / "docs" / "reference.md"
# All commands have these; the reference names them once.
COMMON_OPTIONS = {"-h", "--help", "--version"}

COMMANDS = {
    "label-dir": ("jobs.label_dir", "command"),
    "watch-folder": ("jobs.watch_folder", "command"),
    "watch-folder status": ("jobs.watch_folder", "status_command"),
    "label-job": ("jobs.label_job", "command"),
    "label-models": ("jobs.label_models", "command"),
    "label-report": ("jobs.label_report", "command"),
    "label-show": ("jobs.label_show", "command"),
    "label-serve": ("jobs.label_serve", "command"),
    "label-merge": ("jobs.label_merge", "command"),
}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
REPOSITORY_PATH = re.compile(
    r"(?<![\w./~-])((?:pipeline|models|jobs|tests|benchmarks|docs)/[\w./-]*\w/?|Makefile|setup\.cfg)"
)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(document: Path) -> None:
    broken = [target for target in LINK.findall(document.read_text()) if not _is_link_sound(document, target)]
    assert broken == []


def test_every_path_of_the_repository_that_is_named_exists(document: Path) -> None:
    named = set(REPOSITORY_PATH.findall(document.read_text()))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_reference_lists_the_options_that_each_command_has() -> None:
    documented = _documented_options(REFERENCE.read_text())
    offered = dict(_offered_options())
    assert documented == {name: options for name, options in offered.items() if options or name in documented}


def test_the_reference_lists_the_error_classes_in_their_order() -> None:
    assert _first_column(_section(REFERENCE, "Error classes")) == [error_class.value for error_class in ErrorClass]


def test_the_reference_lists_the_exit_codes() -> None:
    assert _first_column(_section(REFERENCE, "Exit codes")) == [str(code.value) for code in ExitCode]


def test_the_manual_of_job_files_lists_their_keys() -> None:
    keys = _first_column(_section(ROOT / "docs" / "nightly-jobs.md", "Keys of a job file"))
    assert sorted(keys) == sorted([*Job.model_fields, *(field.name for field in fields(Task))])


def test_the_tree_of_the_architecture_shows_each_code_file_and_nothing_else() -> None:
    shown = set(_tree(ARCHITECTURE.read_text()))
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in CODE_SUFFIXES and path.stat().st_size > 0
    }
    assert sorted(files - shown) == [], "missing in the tree"
    assert sorted(path for path in shown if not (ROOT / path).exists()) == [], "gone from the repository"


def test_the_contracts_of_the_architecture_name_each_command_and_exit_code() -> None:
    contracts = _section(ARCHITECTURE, "Contracts")
    assert [name for name in COMMANDS if f"`{name}" not in contracts] == []
    codes = set(re.findall(r"\b\d+\b", contracts.partition("**Exit codes**")[2].partition("\n\n")[0]))
    assert codes == {str(code.value) for code in ExitCode}


def test_the_architecture_ends_with_twenty_questions_and_a_path_for_each() -> None:
    questions = ARCHITECTURE.read_text().partition("## Where is it decided that")[2].strip().splitlines()[1:]
    answers = [re.fullmatch(r"\d+\. \.\.\. .+\? `([\w./-]+)`", line) for line in questions if line]
    assert len(answers) == 20
    assert all(answer is not None and (ROOT / answer[1]).is_file() for answer in answers)


def _is_link_sound(document: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True
    path, _, anchor = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    return file.exists() and (not anchor or anchor in _anchors(file))


def _anchors(document: Path) -> set[str]:
    """Return the headings of `document` as GitHub writes them in links."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _section(document: Path, heading: str) -> str:
    """Return the text under `heading`, up to the next heading of the same rank or a higher one."""
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", document.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def _first_column(section: str) -> list[str]:
    cells = re.findall(r"^\| `?([\w]+)`? \|", section, re.MULTILINE)
    return [cell for cell in cells if cell not in {"class", "code", "key"}]


def _documented_options(text: str) -> dict[str, set[str]]:
    """Return the options in the table under each heading that names a command: `label-job run` -> {"-q", ...}."""
    documented: dict[str, set[str]] = {}
    for heading, body in re.findall(r"^##+ `([^`]+)`$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| (`-[^|]*) \|", body, re.MULTILINE)
        documented[_command_name(heading)] = {option for row in rows for option in re.findall(r"`([^`]+)`", row)}
    return documented


def _command_name(heading: str) -> str:
    """Return the words of `heading` that are no arguments: `label-job run JOB.toml` -> `label-job run`."""
    return " ".join(word for word in heading.split() if re.fullmatch(r"[a-z-]+", word))


def _offered_options() -> Iterator[tuple[str, set[str]]]:
    """Yield each command and verb with the options that its --help lists."""
    for name, (module, attribute) in COMMANDS.items():
        command: click.Command = getattr(importlib.import_module(module), attribute)
        yield name, _options_of(command)
        if isinstance(command, click.Group):
            for verb, child in command.commands.items():
                yield f"{name} {verb}", _options_of(child)


def _options_of(command: click.Command) -> set[str]:
    parameters = command.get_params(click.Context(command))
    shown = [one for one in parameters if isinstance(one, click.Option) and not one.hidden]
    return {flag for option in shown for flag in (*option.opts, *option.secondary_opts)} - COMMON_OPTIONS


def _tree(text: str) -> Iterator[str]:
    """Yield each path of the tree, which shows a folder by a slash and its content by two more spaces."""
    block = text.partition("## The tree")[2].partition("```text\n")[2].partition("```")[0]
    folders: list[str] = []
    for line in block.splitlines():
        if not line.strip():
            continue
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth]
        yield "".join(folders) + name
        if name.endswith("/"):
            folders.append(name)


def test_each_test_that_the_page_on_ownership_names_exists_and_its_cases_are_complete_and_sorted() -> None:
    text = (ROOT / "docs" / "ownership.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    missing = [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 43))
