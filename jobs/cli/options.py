"""The options that several commands share, each declared once: name, type, bounds, default and help.

An option is a field of a dataclass. `with_options` makes click options of the fields, `take_options` the dataclass of
what click parsed, and a task of a job file inherits the fields as its keys. No import here may load numpy: a command
sets environment variables that numpy reads when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

import click

from jobs.cli.duration_type import Duration
from jobs.cli.number_type import NumberBetween
from models.spec import DEFAULT_BATCH_SIZE, DEFAULT_ENGINE, DEFAULT_MODEL, DEFAULT_TOP_K
from pipeline.defaults import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_PIXELS,
    DEFAULT_PHOTO_TIMEOUT_S,
)
from pipeline.loading.loader_kind import DEFAULT_LOADER, LOADER_ALIASES, LoaderKind

Command = TypeVar("Command", bound=Callable[..., Any])
Options = TypeVar("Options")


class _LoaderChoice(click.Choice[str]):
    """Offers the names of the loaders and also accepts their names of earlier versions."""

    def __init__(self) -> None:
        super().__init__([kind.value for kind in LoaderKind])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LoaderKind:
        return LoaderKind(super().convert(str(LOADER_ALIASES.get(value, value)), param, ctx))


@dataclass(frozen=True, slots=True)
class Interval:
    """The smallest and the largest value of an option, in the form in which pydantic reads bounds.

    annotated_types has the same, and its import would take every command 13 ms; only job files need it.
    """

    __is_annotated_types_grouped_metadata__: ClassVar[Literal[True]] = True

    ge: int | None = None
    le: int | None = None

    def __iter__(self) -> Iterator[object]:
        """Yield the bounds as annotated_types has them."""
        from annotated_types import Ge, Le

        if self.ge is not None:
            yield Ge(self.ge)
        if self.le is not None:
            yield Le(self.le)


@dataclass(frozen=True, slots=True)
class Flag:
    """What an option needs besides the name, bounds and default of its field; click can derive simple types itself."""

    help: str
    short: str | None = None
    metavar: str | None = None
    type: click.ParamType[Any] | None = None


COUNT = Interval(ge=1, le=1024)
_POSITIVE = Interval(ge=1)
_PATTERNS = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabellingOptions:
    """How photos are labelled, by the names of the options; `timeout` is in seconds, None is left to the machine."""

    model: Annotated[str, Flag("A model's name, or an .onnx file.", "-m")] = DEFAULT_MODEL
    batch_size: Annotated[int | None, COUNT, Flag(f"Photos per batch.  [default: {DEFAULT_BATCH_SIZE}]", "-b")] = None
    workers: Annotated[int | None, COUNT, Flag("Decode processes.  [default: one per core]", "-j")] = None
    pool: Annotated[int | None, COUNT, Flag("Classifier processes.  [default: one per core]")] = None
    threads: Annotated[int | None, COUNT, Flag("Threads per classifier process.  [default: 1]")] = None
    topk: Annotated[int, Interval(ge=1, le=1000), Flag("Labels per photo.")] = DEFAULT_TOP_K
    engine: Annotated[str, Flag("What runs the model; auto: the fastest here.")] = DEFAULT_ENGINE
    loader: Annotated[
        LoaderKind, Flag("Which DataLoader feeds the classifiers: ours or torch's.", type=_LoaderChoice())
    ] = DEFAULT_LOADER
    include: Annotated[_PATTERNS, Flag("Only files that match, whatever their ending.", metavar="PATTERN")] = ()
    exclude: Annotated[_PATTERNS, Flag("No files and folders that match.", metavar="PATTERN")] = ()
    follow_links: Annotated[bool, Flag("Follow symbolic links; without it they are skipped.")] = False
    timeout: Annotated[float, _POSITIVE, Flag("Time limit for one photo.", type=Duration(1))] = DEFAULT_PHOTO_TIMEOUT_S
    max_pixels: Annotated[int, _POSITIVE, Flag("Largest photo, in pixels.")] = DEFAULT_MAX_PIXELS
    max_bytes: Annotated[int, _POSITIVE, Flag("Largest file, in bytes.")] = DEFAULT_MAX_BYTES
    min_prob: Annotated[
        float | None,
        Flag("Below: status unsure.  [default: what a taught model says]", type=NumberBetween(0, 1)),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTimings:
    """How a folder is watched, in seconds; `poll` None: by events where the file system reports changes."""

    flush: Annotated[float, Flag("Longest time from a label to its row on disk.", type=Duration(0.05))] = 2.0
    settle: Annotated[float, Flag("How long a photo must be unchanged.", type=Duration(0))] = 2.0
    poll: Annotated[
        float | None, Flag("List this often, without events.  [default: 5s on network shares]", type=Duration(0.05))
    ] = None
    rescan: Annotated[float, Flag("List this often beside events.", type=Duration(1))] = 300.0


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
log_format_option = click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of stderr."
)


def print_unit_option(unit_name: str) -> Callable[[Command], Command]:
    """Return the option `--print-unit`, which prints the systemd unit `unit_name` of `jobs/units` and ends."""

    def print_unit(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
        if is_asked:
            from importlib import resources

            from jobs.cli.standard_streams import print_text

            unit = resources.files("jobs").joinpath("units", unit_name).read_text("utf-8")
            print_text(unit.rstrip("\n"))
            context.exit()

    return click.option(
        "--print-unit", is_flag=True, is_eager=True, expose_value=False, callback=print_unit, help="For systemd."
    )


def context_settings(variable_prefix: str) -> dict[str, object]:
    """Return click's settings of a command whose option `--x` is also the environment variable `variable_prefix`_X."""
    return {
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": variable_prefix,
        "max_content_width": 110,
    }


def with_options(kind: type[Any], *without: str) -> Callable[[Command], Command]:
    """Return a decorator that adds an option for each field of `kind` but those named in `without`."""

    def decorate(command: Command) -> Command:
        hints = get_type_hints(kind, include_extras=True)
        for field in reversed(fields(kind)):
            if field.name not in without:
                command = _click_option(field, hints[field.name])(command)
        return command

    return decorate


def take_options(kind: type[Options], parsed: dict[str, Any]) -> Options:
    """Remove the options of `kind` from what click `parsed` and return them; a missing one has its default."""
    names = [field.name for field in fields(kind) if field.name in parsed]  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: parsed.pop(name) for name in names})


def _click_option(field: Field[Any], hint: Any) -> Callable[[Command], Command]:
    flag = next(extra for extra in hint.__metadata__ if isinstance(extra, Flag))
    bounds: Any = next((extra for extra in hint.__metadata__ if isinstance(extra, Interval)), None)
    range_type = click.IntRange(bounds.ge, bounds.le) if bounds else None
    default = field.default
    if isinstance(flag.type, Duration) and default is not None:
        default = f"{default:g}s"
    return click.option(
        *([flag.short] if flag.short else []),
        "--" + field.name.replace("_", "-"),
        type=flag.type or range_type,
        # click would show an enum's default by the name of its member.
        default=default.value if isinstance(default, StrEnum) else default,
        show_default=bool(default),
        is_flag=default is False,
        multiple=default == (),
        metavar=flag.metavar,
        help=flag.help,
    )
