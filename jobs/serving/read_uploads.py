"""The body of a request -> the photos in it, in memory alone; refused where it breaks a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from pipeline.serving.upload import Upload

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PHOTO_FIELD = "photo"
MODEL_FIELD = "model"
# A client has this long to begin, and from then on has to keep up this rate on average.
GRACE_S = 20.0
SLOWEST_BYTES_PER_S = 20_000.0
_LARGEST_FIELD_BYTES = 200


class RefusedRequestError(Exception):
    """A request that is answered with `status` and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(slots=True)
class LabelRequestBody:
    """The photos of one request in their order, and the model it names; `close` frees the photos' memory."""

    uploads: list[Upload] = field(default_factory=list)
    model: str | None = None

    def close(self) -> None:
        """Free the memory of photos."""
        for upload in self.uploads:
            upload.close()
        self.uploads = []


async def read_uploads(
    headers: Headers, chunks: AsyncIterator[bytes], most_files: int, most_bytes: int
) -> LabelRequestBody:
    """Return the photos of a `multipart/form-data` body.

    Raises:
        RefusedRequestError: the body is no form, holds no photo or too many, is too large or too slow.
        ClientDisconnect: the client has left.
    """
    if int(headers.get("content-length", "0")) > most_bytes:
        raise _too_large(most_bytes)
    form = _Form(headers, most_files)
    try:
        await _feed(form, chunks, most_bytes)
    except BaseException:
        form.body.close()
        raise
    return form.body


async def _feed(form: _Form, chunks: AsyncIterator[bytes], most_bytes: int) -> None:
    began_s = asyncio.get_running_loop().time()
    received = 0
    try:
        async with asyncio.timeout_at(began_s + GRACE_S) as deadline:
            async for chunk in chunks:
                received += len(chunk)
                if received > most_bytes:
                    raise _too_large(most_bytes)
                form.write(chunk)
                deadline.reschedule(began_s + GRACE_S + received / SLOWEST_BYTES_PER_S)
        form.end()
    except TimeoutError as error:
        raise RefusedRequestError(408, "the photos came too slowly") from error
    except FormParserError as error:
        raise RefusedRequestError(400, "the body is no sound multipart/form-data") from error
    except OSError as error:
        raise RefusedRequestError(503, f"there is no room for the photos: {error.strerror}") from error


def _too_large(most_bytes: int) -> RefusedRequestError:
    return RefusedRequestError(413, f"a request has at most {most_bytes} bytes")


class _Form:
    """The callbacks of the parser: each part with a file name becomes an upload, the others short texts."""

    def __init__(self, headers: Headers, most_files: int) -> None:
        kind, options = parse_options_header(headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise RefusedRequestError(415, "send multipart/form-data, as `curl -F photo=@cat.jpg` does")
        self.body = LabelRequestBody()
        self._most_files = most_files
        self._name = self._value = b""
        self._disposition = b""
        self._upload: Upload | None = None
        self._text = b""
        self._field = ""
        self._is_complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def write(self, chunk: bytes) -> None:
        """Parse a piece of the body."""
        if chunk:
            self._parser.write(chunk)

    def end(self) -> None:
        """Check that the form is whole. Raises RefusedRequestError."""
        self._parser.finalize()
        if not self._is_complete:
            raise RefusedRequestError(400, "the form ends before its last boundary")
        if not self.body.uploads:
            raise RefusedRequestError(400, f"no photo in the form: send at least one file in the field {PHOTO_FIELD}")

    def _on_part_begin(self) -> None:
        self._disposition = self._text = b""
        self._upload = None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data":
            raise RefusedRequestError(400, "a part of the form does not say what it is")
        self._field = options.get(b"name", b"").decode("utf-8", "backslashreplace")
        if b"filename" not in options:
            if self._field != MODEL_FIELD or self.body.model is not None:
                raise RefusedRequestError(
                    400, f"a form has one field {MODEL_FIELD} and files in the field {PHOTO_FIELD}"
                )
            return
        if self._field != PHOTO_FIELD:
            raise RefusedRequestError(400, f"a file in another field than {PHOTO_FIELD}")
        if len(self.body.uploads) >= self._most_files:
            raise RefusedRequestError(400, f"a request has at most {self._most_files} photos: send more requests")
        self._upload = Upload(options[b"filename"].decode("utf-8", "backslashreplace"))
        self.body.uploads.append(self._upload)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._upload is not None:
            self._upload.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _LARGEST_FIELD_BYTES:
            raise RefusedRequestError(400, "a field of the form is too long")

    def _on_part_end(self) -> None:
        if self._upload is None and self._field == MODEL_FIELD:
            self.body.model = self._text.decode("utf-8", "backslashreplace")

    def _on_end(self) -> None:
        self._is_complete = True
