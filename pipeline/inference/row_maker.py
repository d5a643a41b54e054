"""Classified batches -> rows: class numbers become labels, and answers below the thresholds are unsure."""

from __future__ import annotations

import time
from collections.abc import Iterator

from models.artifact import Artifact, Thresholds
from pipeline.records import Classified, FileRef, ItemError, PhotoFacts, Prediction, Row


class RowMaker:
    """Makes the rows of one model; `min_probability` stands in place of the thresholds that a taught model has."""

    def __init__(self, artifact: Artifact, min_probability: float | None) -> None:
        self._labels = artifact.labels
        self._model_id = artifact.model_id
        self._thresholds = artifact.thresholds if min_probability is None else Thresholds(min_probability, -1.0)

    def rows_of(self, classified: Classified) -> Iterator[Row]:
        """Yield a row for each file of a batch, in their order; a file without a picture has a row with its error."""
        predictions = iter(classified.predictions)
        now_us = time.time_ns() // 1000
        batch = classified.batch
        for ref, outcome in zip(batch.refs, batch.outcomes, strict=True):
            if isinstance(outcome, ItemError):
                yield self._row(ref, None, outcome, now_us)
            else:
                yield self._row(ref, outcome, next(predictions), now_us)

    def _row(self, ref: FileRef, facts: PhotoFacts | None, result: Prediction | ItemError, now_us: int) -> Row:
        prediction = result if isinstance(result, Prediction) else Prediction((), ())
        return Row(
            file_name=ref.name,
            error=result if isinstance(result, ItemError) else None,
            labels=tuple(self._labels[index] for index in prediction.class_ids),
            probabilities=prediction.probabilities,
            width=facts.width if facts else None,
            height=facts.height if facts else None,
            size_bytes=facts.size_bytes if facts else ref.size_bytes,
            mtime_us=facts.mtime_us if facts else ref.mtime_us,
            sha256=facts.sha256.hex() if facts else None,
            model=self._model_id,
            labelled_at_us=now_us,
            is_unsure=isinstance(result, Prediction) and self._is_unsure(result),
            etag=facts.etag if facts else ref.etag,
        )

    def _is_unsure(self, prediction: Prediction) -> bool:
        least = self._thresholds
        is_probable = prediction.probabilities[0] >= least.min_probability
        return not is_probable or prediction.familiarity < least.min_familiarity
