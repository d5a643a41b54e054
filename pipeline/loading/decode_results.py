"""The result of each file of a slot, in memory that decode workers write and their parent reads.

Only the number of a slot goes through the pipe of a decode worker. A longer message breaks off where its writer is
killed or suspended, and the parent, which reads each message to its end, would wait for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.records import ErrorClass, ItemError, PhotoFacts
from pipeline.system.shared_array import SharedArray

_TEXT_BYTES = 512
_RECORD = np.dtype(
    [
        ("error", np.int8),
        ("width", np.int32),
        ("height", np.int32),
        ("size_bytes", np.int64),
        ("mtime_us", np.int64),
        ("sha256", "V32"),
        # The reason of an error, or the ETag of an object that was decoded.
        ("text", f"S{_TEXT_BYTES}"),
    ]
)
# An error class is stored as its place in this list, from 1.
_CLASSES = tuple(ErrorClass)
_NO_DIGEST = bytes(32)


class DecodeResults(SharedArray):
    """One record for each file of each slot: uint8 [slots, batch_size, bytes of a record]."""

    @classmethod
    def sized(cls, slots: int, batch_size: int) -> DecodeResults:
        """Make room for the files of `slots` batches of `batch_size`."""
        return cls((slots, batch_size, _RECORD.itemsize), np.uint8)

    def write(self, slot: int, outcomes: Sequence[PhotoFacts | ItemError]) -> None:
        """Store the results of the files of `slot`, in order; a reason is cut to 512 bytes."""
        records = self.array[slot].view(_RECORD)[:, 0]
        for position, outcome in enumerate(outcomes):
            if isinstance(outcome, ItemError):
                reason = outcome.reason.encode("utf-8", "backslashreplace")[:_TEXT_BYTES]
                number = _CLASSES.index(outcome.error_class) + 1
                records[position] = (number, 0, 0, 0, 0, _NO_DIGEST, reason)
            else:
                facts = (outcome.width, outcome.height, outcome.size_bytes, outcome.mtime_us, outcome.sha256)
                records[position] = (0, *facts, (outcome.etag or "").encode("utf-8", "backslashreplace"))

    def read(self, slot: int, count: int) -> tuple[PhotoFacts | ItemError, ...]:
        """Return the results of the first `count` files of `slot`."""
        records = self.array[slot, :count].view(_RECORD)[:, 0].tolist()
        return tuple(
            ItemError(_CLASSES[error - 1], text.decode("utf-8", "ignore"))
            if error
            else PhotoFacts(*[*facts, text.decode() or None])
            for error, *facts, text in records
        )
