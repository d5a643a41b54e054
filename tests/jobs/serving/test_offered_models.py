"""Which models a server offers, and how many of them it loads."""

from __future__ import annotations

import pytest

from jobs.serving import offered_models
from jobs.serving.offered_models import MOST_LOADED, OfferedModels
from pipeline.labeller import Labeller


def _never(_name: str) -> Labeller:
    raise AssertionError("nothing is loaded here")


def test_models_that_are_built_later_are_offered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    built = ["shelf"]
    monkeypatch.setattr(offered_models, "built_models", lambda: list(built))
    models = OfferedModels("efficientnet_lite0", None, _never, lambda answers: None)
    assert models.names == ["efficientnet_lite0", "shelf"]
    built += ["birds", "efficientnet_lite0"]
    assert models.names == ["efficientnet_lite0", "shelf", "birds"]


def test_only_the_named_models_are_offered_the_first_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered_models, "built_models", lambda: ["birds"])
    models = OfferedModels("shelf", ["resnet18"], _never, lambda answers: None)
    assert models.names == ["shelf", "resnet18"]
    assert not models.is_offered("birds")
    assert not models.is_offered("../../etc/passwd")
    assert models.is_offered(None) and models.is_offered("resnet18")


def test_of_the_models_that_nobody_named_only_so_many_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered_models, "built_models", lambda: [f"model{number}" for number in range(10)])
    models = OfferedModels("model0", None, _never, lambda answers: None)
    models.loaded.update({f"model{number}": None for number in range(MOST_LOADED)})  # type: ignore[misc]  # placeholders
    assert models.is_offered("model9")
    assert models.find("model9") is None
    assert models.find("model3") is models.loaded["model3"]
