"""Which engine runs a model on this CPU, by figures of all installed engines that are measured once and kept.

They hold per artifact and kind of CPU until `label-models certify` measures again or the installed engines change. So
the engine of `--engine auto` does not change from run to run with how busy the machine was when it was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.artifact import ID_DIGITS, Artifact
from models.certification.certificate import Certificate
from models.certification.engine_survey import WORTH_TELLING, EngineSurvey, read_survey, write_survey
from models.engines import AUTO_ENGINE, INT8_ENGINES, installed_versions
from models.manifest import cache_folder, torch_int8_name
from models.model_lock import kept_if_writable, lock_if_writable, model_lock
from models.spec import DEFAULT_ENGINE
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify, isolated_call

# Every run asks for an engine; only one that measures needs numpy and onnxruntime for that.
if TYPE_CHECKING:
    from models.certification.certify import Terms
    from models.samples import Photos

QUANTIZE_SECONDS_USUAL = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """What engines are chosen for: the int8 artifact of a model; where they are known its fp32 artifact and the
    certificate of int8 by onnxruntime; and whether torch has the weights of the model, too.

    The fp32 artifact is a function that reads it: to read and to hash its file takes a run longer than its choice.
    """

    int8: Artifact
    fp32: Callable[[], Artifact] | None = None
    certificate: Certificate | None = None
    is_in_torch: bool = False

    @property
    def survey_path(self) -> Path:
        """The file of the figures, for this kind of CPU."""
        return survey_path(self.int8)


def survey_path(int8: Artifact) -> Path:
    """The path of the figures of all engines for an int8 artifact, on this kind of CPU."""
    name = f"{int8.name}-{int8.sha256[:ID_DIGITS]}-{this_cpu().key}-engines.json"
    return cache_folder() / "certificates" / name


def chosen_engine(choice: Choice, asked: str, notify: Notify) -> str:
    """The engine that is to run a model where "auto", "openvino" or the default is asked for.

    Engines are measured first where they were not yet. `notify` gets a sentence where an engine that was asked for is
    not certified here, and where another engine is much faster than the default. Raises LabelDirError.
    """
    versions = installed_versions(_candidates(choice))
    if list(versions) == [DEFAULT_ENGINE]:
        return DEFAULT_ENGINE
    kept, name = _kept_survey(choice, versions, notify), choice.int8.name
    survey = kept or _measured(choice, versions, None, None, notify)
    if asked == AUTO_ENGINE:
        if kept is None:
            notify(f"{name} is run by {survey.choice} from now on: {survey.verdict(survey.choice)}")
        return survey.choice
    if asked == DEFAULT_ENGINE:
        if survey.speedup(survey.choice) >= WORTH_TELLING:
            faster = f"{survey.choice} is {survey.speedup(survey.choice):.2f} times as fast as {asked}"
            notify(f"{faster} for {name} on this CPU: --engine auto labels by the fastest engine")
        return DEFAULT_ENGINE
    if survey.faults(asked):
        notify(f"running {name} by {DEFAULT_ENGINE}, because by {asked} it is {survey.verdict(asked)}")
        return DEFAULT_ENGINE
    return asked


def survey_again(choice: Choice, photos: Photos | None, terms: Terms, notify: Notify) -> EngineSurvey | None:
    """Measure every installed engine again, on photos where there are some; None where only onnxruntime is
    installed."""
    versions = installed_versions(_candidates(choice))
    if list(versions) == [DEFAULT_ENGINE]:
        return None
    choice.survey_path.unlink(missing_ok=True)
    return _measured(choice, versions, photos, terms, notify)


def _measured(
    choice: Choice, versions: dict[str, str], photos: Photos | None, terms: Terms | None, notify: Notify
) -> EngineSurvey:
    """Measure the engines in `versions` and keep their figures."""
    int8, path = choice.int8, choice.survey_path
    with lock_if_writable(int8.sha256, notify, ".engines"):
        # Another run may have measured them while this one waited for the lock.
        if (kept := read_survey(path)) is not None and kept.versions == versions:
            return kept
        notify(f"measuring the engines of {int8.name} on this CPU, once, in some seconds: {_told(versions)}")
        if "torch-int8" in versions and choice.fp32 is not None:
            ensure_torch_int8(choice.fp32(), "torch-int8", notify)
        from models.certification.certify import Terms
        from models.certification.measure_engines import Subject, measure_engines

        subject = Subject(int8.path, choice.fp32().path if choice.fp32 else None, choice.certificate, photos)
        survey = isolated_call(measure_engines, notify, subject, versions, terms or Terms())
        with kept_if_writable(notify):
            write_survey(path, survey)
    return survey


def ensure_torch_int8(fp32: Artifact, engine: str, notify: Notify) -> str:
    """The sha256 of the weights that torch quantized from a model; quantized first where they are missing."""
    path = fp32.path.parent / torch_int8_name(fp32, engine)
    with model_lock(fp32.name, notify, f".{engine}"):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        notify(f"quantizing {fp32.name} for {engine} on generated images, once, in about {QUANTIZE_SECONDS_USUAL} s")
        from models.engines.torch_int8 import write_torch_int8

        return isolated_call(write_torch_int8, notify, fp32.path, engine, None)


def _candidates(choice: Choice) -> list[str]:
    """The engines that could run a model.

    torch's int8 form is another quantization of the model, which takes its time. It counts where it is there, because
    it was asked for once, and on CPUs with AMX, where it can be far faster. It cannot tell how familiar a photo is.
    """
    has_torch = choice.is_in_torch and choice.fp32 is not None and "teaching" not in choice.int8.source
    return [engine for engine in INT8_ENGINES if engine != "torch-int8" or (has_torch and _is_torch_worth_it(choice))]


def _is_torch_worth_it(choice: Choice) -> bool:
    if "amx_int8" in this_cpu().flags:
        return True
    folder = choice.int8.path.parent
    if not any(folder.glob(f"{choice.int8.name}-torch-int8-*")):
        return False
    assert choice.fp32 is not None
    return (folder / torch_int8_name(choice.fp32(), "torch-int8")).is_file()


def _kept_survey(choice: Choice, versions: dict[str, str], notify: Notify) -> EngineSurvey | None:
    """The figures that were measured before, None where there are none, or not of the engines that are installed."""
    survey = read_survey(choice.survey_path)
    if survey is None or survey.versions == versions:
        return survey
    notify(f"the engines are not those that were measured ({_told(survey.versions)})")
    return None


def _told(versions: dict[str, str]) -> str:
    return ", ".join(f"{engine} {version}" for engine, version in versions.items())
