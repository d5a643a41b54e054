"""`/openapi.json`: the interface for programs, described in OpenAPI 3.1; made from the columns of the table."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.serving.app import ServerPart
from jobs.serving.read_uploads import MODEL_FIELD, PHOTO_FIELD
from pipeline.tables.cells import column_names

_Schema = dict[str, Any]
_NULLABLE_INTEGER: _Schema = {"type": ["integer", "null"], "minimum": 0}
_TIME: _Schema = {"type": "string", "format": "date-time"}
_COLUMNS: dict[str, _Schema] = {
    "file_name": {"type": "string", "description": "As the client gave it."},
    "status": {"type": "string", "enum": ["ok", "unsure", "error"]},
    "error": {"type": ["string", "null"], "description": "`class: reason`, null unless status is error."},
    "width": _NULLABLE_INTEGER,
    "height": _NULLABLE_INTEGER,
    "size_bytes": {"type": "integer", "minimum": 0},
    "mtime": {**_TIME, "description": "When the photo had arrived."},
    "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$", "description": "Of the bytes labelled."},
    "model": {"type": "string", "description": "Name and first 12 hex digits of the sha256 of its file."},
    "labelled_at": _TIME,
}
_LABEL: _Schema = {"type": ["string", "null"]}
_PROBABILITY: _Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def openapi_part(top_k: int, most_files: int) -> ServerPart:
    """Return the description's route; it tells nothing of the user's, so it needs no token."""
    document = describe(top_k, most_files)

    async def show(_request: Request) -> Response:
        return JSONResponse(document)

    return ServerPart([Route("/openapi.json", show, methods=["GET"])], ["/openapi.json"])


def describe(top_k: int, most_files: int) -> _Schema:
    """Return the description of a server whose rows have `top_k` labels."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "label-serve", "version": version("label-dir")},
        "paths": {
            "/v1/label": {"post": _label(most_files)},
            "/v1/models": {
                "get": _get("The models that may be chosen.", _json({"$ref": "#/components/schemas/Models"}))
            },
            "/healthz": {"get": _get("The server answers.", _json(_status()), is_public=True)},
            "/readyz": {
                "get": _get(
                    "Photos can be labelled.",
                    _json(_status()),
                    {"503": _response("Not at the moment.", _status())},
                    True,
                )
            },
            "/metrics": {"get": _get("Figures for Prometheus.", {"text/plain": {"schema": {"type": "string"}}})},
        },
        "components": {
            "schemas": {
                "Row": _row(top_k),
                "Rows": _object({"rows": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}}),
                "Models": _models(),
                "Error": _object({"error": {"type": "string", "description": "A sentence."}}),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # The empty one: a server without a token asks for none.
        "security": [{}, {"token": []}],
    }


def _label(most_files: int) -> _Schema:
    photos = {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}
    form = {
        "type": "object",
        "properties": {
            PHOTO_FIELD: {**photos, "minItems": 1, "maxItems": most_files},
            MODEL_FIELD: {"type": "string", "description": "One of /v1/models; without it, the default."},
        },
        "required": [PHOTO_FIELD],
        "additionalProperties": False,
    }
    refusals = {
        "400": "The form is broken, or has no photo, too many, or other fields.",
        "404": "No such model.",
        "408": "The photos came too slowly.",
        "413": "Too many bytes.",
        "415": "No multipart/form-data.",
        "503": "Too many photos are waiting, or none can be labelled: try again after `Retry-After` seconds.",
    }
    return {
        "summary": "Label photos: one row for each, in their order; a broken photo is a row with an error.",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": {
            "200": {"description": "The rows.", "content": _json({"$ref": "#/components/schemas/Rows"})},
            **{status: _refusal(text) for status, text in refusals.items()},
            **_common_refusals(),
        },
    }


def _get(summary: str, content: _Schema, further: _Schema | None = None, is_public: bool = False) -> _Schema:
    operation: _Schema = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}, **(further or {}), **_common_refusals()},
    }
    return operation | ({"security": [{}]} if is_public else {})


def _common_refusals() -> _Schema:
    refusals = {"401": "The token is missing or wrong.", "403": "Sent by a page of another site."}
    return {status: _refusal(text) for status, text in refusals.items()}


def _refusal(text: str) -> _Schema:
    return _response(text, {"$ref": "#/components/schemas/Error"})


def _response(text: str, schema: _Schema) -> _Schema:
    return {"description": text, "content": _json(schema)}


def _json(schema: _Schema) -> _Schema:
    return {"application/json": {"schema": schema}}


def _object(properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _status() -> _Schema:
    return _object({"status": {"type": "string"}})


def _models() -> _Schema:
    model = _object({"name": {"type": "string"}, "is_default": {"type": "boolean"}, "is_loaded": {"type": "boolean"}})
    return _object({"models": {"type": "array", "items": model}})


def _row(top_k: int) -> _Schema:
    def column(name: str) -> _Schema:
        return _COLUMNS.get(name) or (_LABEL if name.startswith("label_") else _PROBABILITY)

    return _object({name: column(name) for name in column_names(top_k)})
