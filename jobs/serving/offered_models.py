"""The models that clients may choose: loaded when they are first asked for, reloaded and closed together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from models.manifest import built_models
from pipeline.labeller import Labeller
from pipeline.serving.live_labeller import LiveLabeller
from pipeline.serving.task_queue import Answer

logger = logging.getLogger(__name__)

# Each has processes of its own. The models of `-m` are all loaded, however many.
MOST_LOADED = 4


class OfferedModels:
    """The default model, which is loaded at the start, and others by name: those of `-m`, or all that are built.

    `start` returns a running, warm labeller of the model with a name; `on_answers` as for a LiveLabeller.
    """

    def __init__(
        self,
        default: str,
        others: Sequence[str] | None,
        start: Callable[[str], Labeller],
        on_answers: Callable[[Sequence[Answer]], None],
    ) -> None:
        self.default = default
        self._others = others
        self._start = start
        self._on_answers = on_answers
        self._loaded: dict[str, LiveLabeller] = {}

    def load_default(self) -> None:
        """Load the default model in the main thread, before there are other threads.

        Raises:
            LabelDirError: the model cannot be loaded.
        """
        labeller = self._new(self.default)
        labeller.load()
        self._loaded[self.default] = labeller

    def start(self) -> None:
        """Start the thread of the default model."""
        self._loaded[self.default].start()

    @property
    def names(self) -> list[str]:
        """The names that a client may give, the default first."""
        others = built_models() if self._others is None else self._others
        return list(dict.fromkeys([self.default, *others]))

    @property
    def loaded(self) -> dict[str, LiveLabeller]:
        """The loaded models, also those being loaded, by name."""
        return self._loaded

    def is_offered(self, name: str | None) -> bool:
        """Whether a client may give this name, or none."""
        return name is None or name in self._loaded or name in self.names

    def find(self, name: str | None) -> LiveLabeller | None:
        """Return the labeller of an offered model, None: of the default; None where no more models may be loaded.

        A model that is not loaded yet is loaded meanwhile; photos may be submitted at once.
        """
        wanted = self.default if name is None else name
        if wanted in self._loaded:
            return self._loaded[wanted]
        if self._others is None and len(self._loaded) >= MOST_LOADED:
            return None
        labeller = self._new(wanted)
        self._loaded[wanted] = labeller
        labeller.start()
        return labeller

    def request_reload(self) -> None:
        """Load every loaded model again, each when its photos at work are finished."""
        for labeller in self._loaded.values():
            labeller.request_reload()

    def close(self) -> None:
        """Finish all photos and end all processes."""
        for labeller in self._loaded.values():
            labeller.close()

    def _new(self, name: str) -> LiveLabeller:
        return LiveLabeller(lambda: self._start(name), self._on_answers)
