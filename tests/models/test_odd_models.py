"""Certificates, manifests, descriptions and caches that are odd: each a sentence, never certified, no traceback."""

from __future__ import annotations

import dataclasses
import json
import pwd
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from filelock import FileLock

from models import cache as model_cache
from models import model_lock as locks
from models.artifact import Artifact, metadata_of, read_artifact
from models.cache import ensure_artifact
from models.certification.certificate import Certificate, read_certificate, write_certificate
from models.classifier import Classifier
from models.errors import InputMissingError, OutputError, UsageError
from models.label_file import read_labels
from models.manifest import Manifest, cache_folder, certificate_path, read_manifest
from models.model_lock import model_lock
from models.networks.checkpoint import read_checkpoint
from tests.support.certificates import passed_certificate
from tests.support.tiny_model import write_tiny_model

PASSED = passed_certificate()
NAN = float("nan")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of built models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.mark.parametrize("field", ["top1_agreement", "arithmetic_error", "int8_images_per_s", "fp32_images_per_s"])
def test_case_29_a_certificate_with_nan_is_not_passed(tmp_path: Path, field: str) -> None:
    assert PASSED.passed
    odd = Certificate(**{**dataclasses.asdict(PASSED), field: NAN})
    assert not odd.passed
    write_certificate(tmp_path / "odd.json", odd)
    assert read_certificate(tmp_path / "odd.json") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"top1_agreement": "1.0"},
        {"top1_agreement": None},
        {"top1_agreement": True},
        {"top1_agreement": 7},
        {"fp32_images_per_s": 0},
        {"int8_images_per_s": 10**400},
        {"required_agreement": -1},
        {"model_id": 5},
        {"int8_top1": []},
        {"fp32_bytes": 0},
    ],
    ids=str,
)
def test_case_29_a_certificate_with_impossible_figures_is_no_certificate(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    path = tmp_path / "certificate.json"
    write_certificate(path, PASSED)
    assert read_certificate(path) == PASSED
    path.write_text(json.dumps({**dataclasses.asdict(PASSED), **changed}))
    assert read_certificate(path) is None


@pytest.mark.parametrize("content", ["[" * 5000, "null", "[]", "{}", '{"int8": 5}', "\0", '{"int8": NaN}'])
def test_case_29_an_odd_manifest_or_certificate_is_none(cache: Path, content: str) -> None:
    cache.mkdir(parents=True)
    (cache / "x.json").write_text(content)
    assert read_certificate(cache / "x.json") is None
    assert read_manifest("x") is None
    with pytest.raises(InputMissingError, match="has a damaged manifest: remove"):
        ensure_artifact("x", print)


@pytest.mark.parametrize("kept", ["nan", "-1", "inf", "no number"])
def test_case_29_an_odd_measurement_of_the_arithmetic_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    odd = odd_model(tmp_path, {"precision": "int8"})
    path = certificate_path(read_artifact(odd)).with_suffix(".arithmetic")
    path.parent.mkdir(parents=True)
    path.write_text(kept)
    monkeypatch.setattr(model_cache, "isolated_call", lambda *_: NAN)
    with pytest.raises(InputMissingError, match="do not compute exactly"):
        ensure_artifact(str(odd), print)


def odd_model(folder: Path, changed: dict[str, str]) -> Path:
    tiny = write_tiny_model(folder / "odd.onnx")
    model = onnx.load(tiny.path)
    onnx.helper.set_model_props(model, {**metadata_of(tiny), **changed})
    onnx.save(model, tiny.path)
    return tiny.path


def preprocessing(**changed: object) -> dict[str, str]:
    usual = {"resize_size": 32, "crop_size": 32, "interpolation": "bilinear", "mean": [0, 0, 0], "std": [1, 1, 1]}
    return {"preprocessing": json.dumps({**usual, **changed})}


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": "[]"},
        {"labels": "5"},
        {"labels": "[1, 2]"},
        {"labels": '"abc"'},
        {"labels": "[" * 5000},
        {"source": "[]"},
        {"source": '{"teaching": 3}'},
        {"source": '{"teaching": {"min_probability": "x"}}'},
        {"source": '{"teaching": {"min_probability": NaN}}'},
        {"name": "n" * 300},
        {"name": ""},
        preprocessing(crop_size=0),
        preprocessing(crop_size=10**9),
        preprocessing(crop_size="32"),
        preprocessing(resize_size=-1),
        preprocessing(interpolation="cubist"),
        preprocessing(interpolation=[]),
        preprocessing(mean=[0, 0]),
        preprocessing(std=[0, 1, 1]),
        preprocessing(mean=[NAN, 0, 0]),
        preprocessing(mean=[10**400, 0, 0]),
        preprocessing(more=1),
        {"preprocessing": "null"},
    ],
    ids=lambda changed: str(changed)[:60],
)
def test_case_32_an_odd_description_is_one_sentence(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(InputMissingError, match="is damaged: ") as raised:
        read_artifact(odd_model(tmp_path, changed))
    assert raised.value.exit_code == 66
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [3, 7, 9])
def test_case_32_a_model_with_another_number_of_labels_than_classes_is_refused(tmp_path: Path, count: int) -> None:
    labels = json.dumps([f"label {index}" for index in range(count)])
    with pytest.raises(InputMissingError, match=f"describes {count} labels"):
        Classifier(odd_model(tmp_path, {"labels": labels}), 1, 3).warm_up(1)


def test_case_32_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save({"head.weight": torch.tensor([1.0, NAN])}, tmp_path / "w.pth")
    with pytest.raises(InputMissingError, match="not finite numbers"):
        read_checkpoint(tmp_path / "w.pth")


def test_case_27_a_user_without_a_home_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(_: object) -> None:
        raise KeyError("no such user")

    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(UsageError, match="set HOME or XDG_CACHE_HOME"):
        cache_folder()


def test_case_26_a_measurement_that_cannot_be_kept_is_reported_and_the_run_goes_on(
    cache: Path, tiny_model: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(*_: object) -> None:
        raise OutputError("the cache cannot be written: Read-only file system")

    monkeypatch.setattr(model_cache, "isolated_call", lambda *_: PASSED)
    monkeypatch.setattr(locks, "model_lock", unwritable)
    monkeypatch.setattr(model_cache, "write_certificate", unwritable)
    notices: list[str] = []
    manifest = Manifest("", "", "", "", "")
    assert model_cache._measured("tiny", tiny_model, manifest, notices.append) is PASSED
    assert any("is not kept, and the next run measures again" in notice for notice in notices)


def test_case_26_a_lock_that_cannot_be_made_is_an_output_error(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("no folder")
    with pytest.raises(OutputError, match="cannot be written"), model_lock("x", print):
        pass


@pytest.fixture
def held(cache: Path) -> Iterator[FileLock]:
    """The lock of the model x, held."""
    cache.mkdir(parents=True)
    with FileLock(cache / "x.lock", thread_local=False) as lock:
        yield lock


def test_case_39_waiting_for_a_models_lock_is_reported(held: FileLock) -> None:
    notices: list[str] = []
    told = threading.Event()

    def notify(sentence: str) -> None:
        notices.append(sentence)
        told.set()
        held.release()

    with model_lock("x", notify):
        assert told.is_set()
    assert "waiting for another process that prepares the model x" in notices[0]


def test_a_label_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("milk\njuice\n", encoding="utf-8-sig")
    assert read_labels(tmp_path / "labels.txt") == ("milk", "juice")
