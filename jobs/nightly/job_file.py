"""A job file -> the job, or every mistake in the file with its line."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobs.nightly.job import Command, Job, Task
from jobs.nightly.outputs import overlaps
from jobs.nightly.toml_lines import Place, line_numbers, line_of
from pipeline.errors import InputMissingError
from pipeline.sources.arguments import OUT_SUFFIXES

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_REPORT_SUFFIX = ".html"
_PLAIN_BY_TYPE = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text",
    "path_type": "must be a path, as text",
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "dataclass_type"), "must be a table of keys"),
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "must be letters, digits, dots, dashes and underscores, the first a letter or digit",
}
_VALUE_ERROR = "Value error, "
# tomllib and pydantic call themselves for each level; a job file has three.
_DEEPEST_NESTING = 50
_LONGEST_QUOTE = 80
_SUMMARY_ENDING = ".summary.json"


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """A mistake in a job file, and its line; None where the mistake is in no single line."""

    line: int | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence if self.line is None else f"line {self.line}: {self.sentence}"


def load_job(path: Path, environment: Mapping[str, str] = os.environ) -> Job | tuple[Mistake, ...]:
    """Read a job file, or return all its mistakes in the order of their lines.

    Relative paths in it start from its own folder; `${NAME}` and `${NAME:-default}` come from `environment`.

    Raises:
        InputMissingError: the file cannot be read.
    """
    parsed = _parsed(path)
    if isinstance(parsed, Mistake):
        return (parsed,)
    raw, lines = parsed
    mistakes: list[Mistake] = []
    values = {"summary": path.stem + _SUMMARY_ENDING, **_expanded(raw, (), environment, lines, mistakes)}
    mistakes.extend(_contradictions(values, lines))
    try:
        job = Job.model_validate(values, context={"folder": path.absolute().parent})
    except ValidationError as error:
        # pydantic also reports a list of invalid tasks as too short; the user made only the mistakes in the tasks.
        details = [d for d in error.errors() if d["type"] != "too_short" or d["loc"] != ("task",) or not d["input"]]
        mistakes.extend(_mistake(detail, lines) for detail in details)
    else:
        mistakes.extend(Mistake(line_of(place, lines), sentence) for place, sentence in overlaps(path, job))
    if mistakes:
        return tuple(sorted(mistakes, key=lambda mistake: (mistake.line or 0, mistake.sentence)))
    return job


def failure_command(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """Return the `on_failure` of a job file that has mistakes elsewhere; None where this key cannot be read either.

    Raises:
        InputMissingError: the file cannot be read.
    """
    parsed = _parsed(path)
    if isinstance(parsed, Mistake):
        return None
    raw, lines = parsed
    mistakes: list[Mistake] = []
    command = _expanded(raw.get("on_failure"), ("on_failure",), environment, lines, mistakes)
    try:
        return None if mistakes or command is None else TypeAdapter(Command).validate_python(command)
    except ValidationError:
        return None


def _parsed(path: Path) -> tuple[dict[str, Any], dict[Place, int]] | Mistake:
    try:
        # Editors on Windows begin a file with a byte order mark.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputMissingError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        return Mistake(None, f"not UTF-8: {error.reason}")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_mistake(str(error))
    except RecursionError:
        return _nesting_mistake(text)
    except ValueError as error:
        # Not every wrong number or date is a TOMLDecodeError.
        return Mistake(None, _lowered(str(error)))
    return (raw, line_numbers(text)) if _depth(raw) <= _DEEPEST_NESTING else _nesting_mistake(text)


def _depth(value: Any) -> int:
    """Return how deep lists and tables of `value` are nested, without calling itself for each level."""
    depth, level = 0, [value]
    while level := [v for part in level if isinstance(part, dict | list) for v in _parts_of(part)]:
        depth += 1
    return depth


def _parts_of(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _nesting_mistake(text: str) -> Mistake:
    depth, deepest, deepest_line = 0, 0, None
    for number, line in enumerate(text.splitlines(), 1):
        depth += sum(map(line.count, "[{")) - sum(map(line.count, "]}"))
        highest = depth + sum(map(line.count, "]}"))
        if highest > deepest:
            deepest, deepest_line = highest, number
    return Mistake(deepest_line, f"brackets are nested more than {_DEEPEST_NESTING} deep")


def _syntax_mistake(reason: str) -> Mistake:
    found = re.search(r" \(at line (\d+), column \d+\)$", reason)
    return Mistake(int(found[1]), reason[: found.start()]) if found else Mistake(None, reason)


def _expanded(
    value: Any, place: Place, environment: Mapping[str, str], lines: Mapping[Place, int], mistakes: list[Mistake]
) -> Any:
    if isinstance(value, dict):
        return {k: _expanded(v, (*place, k), environment, lines, mistakes) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v, (*place, i), environment, lines, mistakes) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "$"
        if name not in environment and default is None:
            mistakes.append(Mistake(line_of(place, lines), f"the environment has no variable {name}"))
        # As in a shell, a variable that is set and empty also takes the default of `:-`.
        return environment.get(name, "") or default or ""

    if "\0" in value:
        mistakes.append(Mistake(line_of(place, lines), f"{place[-1]}: the text holds a NUL character"))
        value = value.replace("\0", "")
    return _VARIABLE.sub(replacement, value)


def _mistake(details: Mapping[str, Any], lines: Mapping[Place, int]) -> Mistake:
    place: Place = tuple(details["loc"])
    key = place[-1]
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = [field.name for field in fields(Task)] if place[0] == "task" else list(Job.model_fields)
        near = difflib.get_close_matches(str(key), known, 1, 0.5)
        sentence = f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    elif details["type"] in ("missing", "too_short") and place == ("task",):
        sentence = "there is no [[task]]"
    elif details["type"] == "missing":
        sentence = f"a task needs the key {key!r}"
    else:
        names = ".".join(str(part) for part in place if not isinstance(part, int) and part != "task")
        sentence = f"{names or key}: {_plain(details)}, not {_quoted(details['input'])}"
    return Mistake(line_of(place, lines), sentence)


def _plain(details: Mapping[str, Any]) -> str:
    """Return what pydantic says of a wrong value in words of the job file, which knows neither Python nor its types."""
    pattern = _PLAIN_BY_TYPE.get(str(details["type"]))
    return pattern.format(**details.get("ctx", {})) if pattern else _lowered(details["msg"])


def _quoted(value: object) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = _LONGEST_QUOTE
    return short.repr(value)


def _lowered(message: str) -> str:
    message = message.removeprefix(_VALUE_ERROR)
    return message[:1].lower() + message[1:]


def _contradictions(values: Mapping[str, Any], lines: Mapping[Place, int]) -> Iterator[Mistake]:
    """Yield contradictions between keys; pydantic has not checked the types of the values yet."""
    tasks = values.get("task")
    if not isinstance(tasks, list):
        return
    seen: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if not isinstance(task, dict):
            continue
        value = task.get("name")
        line = line_of(("task", index, "name"), lines)
        if isinstance(value, str) and value in seen:
            yield Mistake(line, f"name {value!r} is already used by the task in line {seen[value]}")
        elif isinstance(value, str):
            seen[value] = line or 0
        yield from _endings(task, index, lines)


def _endings(task: Mapping[str, Any], index: int, lines: Mapping[Place, int]) -> Iterator[Mistake]:
    output, report = task.get("output"), task.get("report")
    if task.get("partition_by") == "exif" and isinstance(task.get("photos"), str) and "://" in task["photos"]:
        line = line_of(("task", index, "partition_by"), lines)
        yield Mistake(line, 'partition_by "exif" reads every photo a second time, so photos must be a folder')
    if isinstance(output, str):
        is_table = output.lower().endswith(OUT_SUFFIXES)
        line = line_of(("task", index, "output"), lines)
        if "partition_by" in task and is_table:
            yield Mistake(line, f"output {output!r} is a table; with partition_by the output must be a folder")
        if "partition_by" not in task and not is_table:
            yield Mistake(line, f"output {output!r} must end in .parquet or .csv, or be a folder with partition_by")
    if isinstance(report, str) and not report.lower().endswith(_REPORT_SUFFIX):
        yield Mistake(line_of(("task", index, "report"), lines), f"report {report!r} must end in {_REPORT_SUFFIX}")
