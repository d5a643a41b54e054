"""What a job file may say: the keys of the job and of its tasks."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationInfo
from pydantic.dataclasses import dataclass as pydantic_dataclass

from jobs.cli.options import LabellingOptions
from pipeline.errors import UsageError
from pipeline.gone_guard import DEFAULT_GONE_LIMIT, GoneLimit
from pipeline.sources.store_url import Place, StoreUrl, parsed_place

_CLOCK_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 4095
# A century: later code makes dates of the days.
_MOST_KEEP_DAYS = 36_500


def _beside_the_job_file(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {})["folder"]
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder of {path.parts[0]}") from None
    path = folder / path
    too_long = any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in path.parts)
    if too_long or len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
        raise ValueError("the path is too long for a file system")
    return path


def _named_beside_the_job_file(path: Path, info: ValidationInfo) -> Path:
    # Locks and temporary files are made beside an output, under names like the output's.
    if not path.name or path.name == "..":
        raise ValueError("must end in the name of a file or folder to write")
    return _beside_the_job_file(path, info)


def _place_in_file(value: object, info: ValidationInfo) -> Place:
    if not isinstance(value, str):
        raise ValueError("must be text: a folder, or a URL such as s3://BUCKET/PREFIX/")
    try:
        place = parsed_place(value)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return _beside_the_job_file(place, info) if isinstance(place, Path) else place


def _words(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


def _clock_time(value: str) -> str:
    if not _CLOCK_TIME.fullmatch(value):
        raise ValueError("must be a time of day such as 06:00")
    return value


def _gone_limit(value: object) -> object:
    if isinstance(value, GoneLimit):
        return value
    try:
        return GoneLimit.parse(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError('must be text: a share such as "30%", or a count such as "100"') from None


PathInFile = Annotated[Path, AfterValidator(_named_beside_the_job_file)]
PlaceInFile = Annotated[Path | StoreUrl, PlainValidator(_place_in_file)]
Command = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]


@pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Task(LabellingOptions):
    """One place of photos and the table, or dataset, that is brought up to date with the place."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    photos: PlaceInFile
    output: PathInFile
    partition_by: Literal["mtime", "exif", "run"] | None = None
    keep_days: Annotated[int, Field(ge=1, le=_MOST_KEEP_DAYS)] | None = None
    report: PathInFile | None = None
    max_gone: Annotated[GoneLimit, BeforeValidator(_gone_limit)] = DEFAULT_GONE_LIMIT


class Job(BaseModel):
    """A whole job file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: PathInFile
    metrics: PathInFile | None = None
    deadline: ClockTime | None = None
    on_success: Command | None = None
    on_failure: Command | None = None
    task: Annotated[tuple[Task, ...], Field(min_length=1)]
