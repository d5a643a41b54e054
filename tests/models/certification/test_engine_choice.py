"""The fastest engine that is right on this CPU is chosen by figures, and a kernel that computes wrongly is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.artifact import Artifact, read_artifact
from models.certification.certificate import Certificate
from models.certification.certify import Terms, certify
from models.certification.engine_choice import Choice, chosen_engine, survey_again
from models.certification.engine_survey import EngineFigures, EngineSurvey, read_survey, write_survey
from models.certification.measure_engines import Subject, measure_engines
from models.engines import installed_versions
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import candidate_calibrations
from models.quantization.quantize import Recipe
from models.samples import Photos
from models.system.isolated_call import isolated_call
from tests.support.networks import images, small_network

QUICK = Terms(rounds=1, batch_size=4, required_agreement=0.8)
ENGINES = ["onnxruntime", "openvino"]


def survey(fp32_images_per_s: float = 50.0, **speeds: float) -> EngineSurvey:
    """A survey in which every engine is right, with these images/s."""
    engines = [
        EngineFigures(name.replace("_", "-"), "1", 0.001, 0.98, "9 photos", speed) for name, speed in speeds.items()
    ]
    return EngineSurvey("cpu", 1, 16, 0.97, fp32_images_per_s, tuple(engines))


def changed(before: EngineSurvey, engine: str, **changes: object) -> EngineSurvey:
    """A survey with other figures for one engine."""
    engines = (
        dataclasses.replace(figures, **changes) if figures.engine == engine else figures  # type: ignore[arg-type]
        for figures in before.engines
    )
    return dataclasses.replace(before, engines=tuple(engines))


def test_auto_is_the_fastest_engine_and_onnxruntime_where_it_is_within_5_percent() -> None:
    assert survey(onnxruntime=100.0, openvino=104.0).choice == "onnxruntime"
    assert survey(onnxruntime=100.0, openvino=106.0).choice == "openvino"
    assert survey(onnxruntime=100.0, openvino=106.0, torch_int8=213.0).choice == "torch-int8"
    assert survey(onnxruntime=106.0, openvino=100.0).choice == "onnxruntime"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"arithmetic_error": 0.05}, "relative error 5.0%"),
        ({"top1_agreement": 0.96}, "agreement 96.0% on 9 photos is below 97.0%"),
        ({"images_per_s": 40.0}, "not faster than fp32"),
        ({"failure": "no such kernel"}, "no such kernel"),
    ],
)
def test_an_engine_that_does_not_pass_is_not_chosen_however_fast(changes: dict[str, Any], fault: str) -> None:
    found = changed(survey(onnxruntime=100.0, openvino=200.0), "openvino", **changes)
    assert found.choice == "onnxruntime"
    assert fault in found.verdict("openvino")


def test_where_int8_by_onnxruntime_is_wrong_another_engine_is_measured_against_fp32() -> None:
    wrong = changed(survey(onnxruntime=100.0, openvino=90.0), "onnxruntime", arithmetic_error=0.5)
    assert (wrong.choice, wrong.speedup("openvino")) == ("openvino", 1.8)
    assert changed(wrong, "openvino", arithmetic_error=0.5).choice == "onnxruntime"


def test_a_survey_is_read_as_it_was_written_and_impossible_figures_are_not_read(tmp_path: Path) -> None:
    path, written = tmp_path / "s.json", survey(onnxruntime=100.0, openvino=110.0)
    write_survey(path, written)
    assert read_survey(path) == written
    good = json.loads(path.read_text())
    odd: list[Any] = [{}, [], {**good, "threads": "1"}, {**good, "fp32_images_per_s": float("nan")}]
    odd += [{**good, "engines": [{**good["engines"][0], "images_per_s": -1}]}, {**good, "engines": [3]}]
    for document in odd:
        path.write_text(json.dumps(document))
        assert read_survey(path) is None


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """The int8 and the fp32 artifact of a small network."""
    folder = tmp_path_factory.mktemp("small")
    calibration = candidate_calibrations(small_network(), Photos(images(), "generated"))[0]
    (folder / "int8.onnx").write_bytes(int8_artifact(small_network(), calibration, Recipe("portable")))
    (folder / "fp32.onnx").write_bytes(fp32_artifact(small_network()))
    return read_artifact(folder / "int8.onnx"), read_artifact(folder / "fp32.onnx")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def choice_of(artifacts: tuple[Artifact, Artifact]) -> Choice:
    """A choice for an int8 artifact whose fp32 form is at hand."""
    int8, fp32 = artifacts
    return Choice(int8, lambda: fp32)


def test_engines_are_measured_once_and_again_where_they_have_changed_or_are_asked_for(
    artifacts: tuple[Artifact, Artifact],
) -> None:
    choice, notices = choice_of(artifacts), list[str]()
    first = chosen_engine(choice, "auto", notices.append)
    assert any(f"is run by {first} from now on" in notice for notice in notices)
    kept = choice.survey_path.read_text()
    assert list(json.loads(kept)["engines"][1]) == [field.name for field in dataclasses.fields(EngineFigures)]
    notices.clear()
    assert chosen_engine(choice, "auto", notices.append) == first
    assert (notices, choice.survey_path.read_text()) == ([], kept)
    choice.survey_path.write_text(kept.replace(installed_versions(["openvino"])["openvino"], "2020.1"))
    chosen_engine(choice, "auto", notices.append)
    assert any("the engines are not those that were measured" in notice and "2020.1" in notice for notice in notices)
    assert "2020.1" not in choice.survey_path.read_text()
    notices.clear()
    again = survey_again(choice, Photos(images(8), "8 images"), QUICK, notices.append)
    assert again is not None
    assert again.figures_of("openvino").images == "8 images"
    assert read_survey(choice.survey_path) == again


def test_a_run_by_onnxruntime_says_in_one_line_that_another_engine_is_much_faster(
    artifacts: tuple[Artifact, Artifact],
) -> None:
    choice = choice_of(artifacts)
    versions = installed_versions(ENGINES)
    for openvino, lines in ((129.0, 0), (131.0, 1)):
        figures = survey(onnxruntime=100.0, openvino=openvino)
        engines = tuple(dataclasses.replace(each, version=versions[each.engine]) for each in figures.engines)
        write_survey(choice.survey_path, dataclasses.replace(figures, engines=engines))
        notices: list[str] = []
        assert chosen_engine(choice, "onnxruntime", notices.append) == "onnxruntime"
        assert len(notices) == lines
    assert "openvino is 1.31 times as fast as onnxruntime" in notices[0]


def test_an_engine_that_was_asked_for_and_is_not_certified_gives_way_to_onnxruntime_and_that_is_told(
    artifacts: tuple[Artifact, Artifact],
) -> None:
    choice, versions = choice_of(artifacts), installed_versions(ENGINES)
    found = changed(survey(onnxruntime=100.0, openvino=200.0), "openvino", arithmetic_error=0.2)
    engines = tuple(dataclasses.replace(each, version=versions[each.engine]) for each in found.engines)
    write_survey(choice.survey_path, dataclasses.replace(found, engines=engines))
    notices: list[str] = []
    assert chosen_engine(choice, "openvino", notices.append) == "onnxruntime"
    assert "by openvino it is not certified: its int8 kernels do not compute" in notices[0]


def with_wrong_convolutions(content: bytes) -> bytes:
    """A model whose convolutions give their second half of channels the weights of the first half.

    As the kernel of onnxruntime#26324 did, this leaves shapes, types and a part of each result as they should be.
    """
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.int8 and weights.ndim == 4:
            wrong = weights.copy()
            wrong[len(wrong) // 2 :] = weights[: len(wrong) // 2]
            tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))
    changed_content: bytes = model.SerializeToString()
    return changed_content


def certify_by_wrong_onnxruntime(notify: Callable[[str], None], int8: Path, fp32: Path) -> Certificate:
    """The certificate in a process whose onnxruntime computes int8 convolutions wrongly, and all else rightly."""
    from models.onnx_runtime import onnxruntime

    session_of = onnxruntime.InferenceSession

    def wrong_session(model: Path | bytes, options: Any, **more: Any) -> Any:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        is_exact = "session.disable_quant_qdq" in str(options_of.get(id(options), ""))
        return session_of(content if is_exact else with_wrong_convolutions(content), options, **more)

    options_of: dict[int, str] = {}
    add = onnxruntime.SessionOptions.add_session_config_entry

    def remember(options: Any, name: str, value: str) -> None:
        options_of[id(options)] = f"{options_of.get(id(options), '')} {name}"
        add(options, name, value)

    onnxruntime.SessionOptions.add_session_config_entry = remember
    onnxruntime.InferenceSession = wrong_session
    return certify(notify, int8, fp32, Photos(images(32, seed=5), "32 images"), QUICK)


def measure_wrong_openvino(notify: Callable[[str], None], wrong: Path, subject: Subject) -> EngineSurvey:
    """The survey in a process whose OpenVINO computes int8 convolutions wrongly."""
    from models.certification import measure_engines as module
    from models.engines import openvino_engine

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(openvino_engine, "read_artifact", lambda _: read_artifact(wrong))
    # In this process, where the kernels are wrong.
    monkeypatch.setattr(module, "isolated_call", lambda function, *arguments: function(*arguments))
    return measure_engines(notify, subject, installed_versions(ENGINES), QUICK)


def test_int8_convolutions_that_onnxruntime_computes_wrongly_are_refused_by_the_certificate(
    artifacts: tuple[Artifact, Artifact],
) -> None:
    int8, fp32 = (artifact.path for artifact in artifacts)
    right = isolated_call(certify, print, int8, fp32, Photos(images(32, seed=5), "32 images"), QUICK)
    assert right.is_exact
    wrong = isolated_call(certify_by_wrong_onnxruntime, print, int8, fp32)
    assert wrong.arithmetic_error > 0.1
    assert "this CPU's int8 kernels do not compute what they should" in wrong.faults[0]
    # The other engine is measured by itself then, and found right.
    found = isolated_call(measure_engines, print, Subject(int8, fp32, wrong), installed_versions(ENGINES), QUICK)
    assert "do not compute what they should" in found.verdict("onnxruntime")
    assert found.figures_of("openvino").arithmetic_error < 0.01
    assert found.figures_of("openvino").images == "48 generated images"


def test_int8_convolutions_that_openvino_computes_wrongly_are_refused(
    artifacts: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    int8, fp32 = (artifact.path for artifact in artifacts)
    (tmp_path / "wrong.onnx").write_bytes(with_wrong_convolutions(int8.read_bytes()))
    found = isolated_call(measure_wrong_openvino, print, tmp_path / "wrong.onnx", Subject(int8, fp32))
    assert found.figures_of("onnxruntime").arithmetic_error < 0.01
    assert found.figures_of("openvino").arithmetic_error > 0.1
    assert "do not compute what they should on this CPU" in found.verdict("openvino")
    assert found.choice == "onnxruntime"
