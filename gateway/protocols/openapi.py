"""The description of the HTTP API: an OpenAPI 3.1 document, and an HTML page generated from it.

https://spec.openapis.org/oas/v3.1.0
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fashion_mnist.predictions import JSON, OCTET_STREAM, Answer
from fashion_mnist.preparation import MODES
from gateway.protocols import native, oip, oip_rest, v1
from gateway.protocols.openapi_schemas import Schema, list_of, object_of, ref, schemas
from gateway.types.page import Offered, Page

PATH: Final = b"/openapi.json"
HTML_PATH: Final = b"/docs"

_HTML: Final = "text/html; charset=utf-8"


def pages(offered: Offered) -> dict[bytes, Page]:
    """The document and the page."""
    document = describe(offered)
    as_json = Answer(200, JSON, json.dumps(document).encode())
    as_html = Answer(200, _HTML, _page(document).encode())
    return {PATH: Page(as_json, as_json), HTML_PATH: Page(as_html, as_html)}


def describe(offered: Offered) -> dict[str, Any]:
    """The document, with the current versions of the model."""
    versions = list(offered.ready)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fashion-MNIST",
            "version": offered.default,
            "summary": "Classifies images of garments into ten classes.",
            "description": "One model behind three protocols: its own, the Open Inference Protocol, and TensorFlow "
            "Serving's. Several versions may be loaded; a path without a version refers to the default. The Open "
            "Inference Protocol is also served over gRPC, on its own port. If the server requires keys, send "
            "`Authorization: Bearer KEY`; health checks need none.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {**_native(versions), **_health(), **_oip(versions), **_v1(versions), **_about()},
        "components": {
            "schemas": schemas(versions),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "Only if the server requires keys."}
            },
        },
        "security": [{"key": []}, {}],
    }


_IMAGE_FILES: Final = ("png", "jpeg", "webp", "bmp", "gif", "tiff", "avif")


_PREPARE: Final = [
    {
        "name": name,
        "in": place,
        "description": "How to prepare images for the network: auto prepares photographs.",
        "schema": {"enum": values},
    }
    # An empty header is ignored.
    for name, place, values in (("prepare", "query", list(MODES)), ("X-Prepare", "header", [*MODES, ""]))
]


def _native(versions: Sequence[str]) -> dict[str, Any]:
    bodies: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in (*(f"image/{name}" for name in _IMAGE_FILES), OCTET_STREAM)
    }
    bodies[JSON] = {"schema": ref("Images")}
    bodies["multipart/form-data"] = {
        "schema": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "string", "format": "binary"},
            "properties": {"top_k": ref("TopK"), "prepare": {"enum": list(MODES)}},
        }
    }
    operation = {
        "summary": "Predict one or more images of any format",
        "description": "A PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF file, raw bytes (784 per image), .npy, IDX, JSON, "
        "or a form of these. The first bytes determine the format. If one of several images is invalid, the answer has "
        "its error in its place.",
        "parameters": [
            {
                "name": "top_k",
                "in": "query",
                "description": "Number of classes to return, the most likely first.",
                "schema": ref("TopK"),
            },
            *_PREPARE,
            {
                "name": "X-Request-Id",
                "in": "header",
                "description": "An id for the request, which the answer and the log repeat.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": _answer(
                "The predictions; with `Accept: application/octet-stream` only the probabilities, float32 [n, 10].",
                ref("Predictions"),
                {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}},
            ),
            **_errors("Error"),
        },
    }
    names = {native.PATH: "", **{native.path_of(version): f"_{version}" for version in versions}}
    return {
        path.decode(): {
            "post": {"operationId": f"predict{name}", **operation},
            "put": {"operationId": f"put{name}", **operation},
        }
        for path, name in names.items()
    }


def _health() -> dict[str, Any]:
    paths = {
        "/health/live": ("Whether the process is alive", ["live"]),
        "/health/ready": ("Whether the health check succeeds", ["ready", "not ready"]),
        "/health/startup": ("Whether the health check has succeeded once", ["started", "starting"]),
        "/ping": ("The same as ready, in TorchServe's format", ["Healthy", "Unhealthy"]),
    }
    found = {}
    for path, (summary, words) in paths.items():
        status = object_of({"status": {"enum": words}}, reason={"type": "string"})
        answers = {"200": _answer(summary, status)} | ({"503": _answer("Not ready.", status)} if words[1:] else {})
        found[path] = {"get": {"summary": summary, "security": [], "responses": {**answers, **_errors("Error", "405")}}}
    return found


def _oip(versions: Sequence[str]) -> dict[str, Any]:
    ready = object_of({"ready": {"type": "boolean"}}, name={"type": "string"})
    live = object_of({"live": {"type": "boolean"}})
    metadata = object_of({"name": {"type": "string"}, "version": {"type": "string"}, "extensions": list_of("string")})
    found = {
        "/v2": _get("Open Inference Protocol: the server", metadata),
        "/v2/health/live": _get("Open Inference Protocol: whether it is alive", live, takes_key=False),
        "/v2/health/ready": _get("Open Inference Protocol: whether it is ready", ready, has_503=True, takes_key=False),
    }
    infer = {
        "summary": "Open Inference Protocol: predict",
        "description": f"One input, `{oip.INPUT}`: UINT8 of shape [n, 1, 28, 28] or [n, 28, 28], or BYTES of shape [n] "
        "with an image file in each, in base64. In requests and answers, tensors may follow the JSON as bytes: then "
        "Inference-Header-Content-Length is the length of the JSON.",
        "parameters": [
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "description": "The length of the JSON, if tensors follow it.",
                "schema": {"type": "integer", "minimum": 1},
            },
            *_PREPARE,
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": ref("InferRequest")},
                OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": _answer(
                "The outputs.",
                ref("InferResponse"),
                {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}},
            ),
            **_errors("ProtocolError"),
        },
    }
    for path in (oip_rest.PATH, *map(oip_rest.path_of, versions)):
        model = path.decode()
        found[model] = _get("Open Inference Protocol: the model", ref("Model"))
        found[f"{model}/ready"] = _get("Open Inference Protocol: whether it is ready", ready, has_503=True)
        found[f"{model}/infer"] = {"post": infer, "put": infer}
    return found


def _v1(versions: Sequence[str]) -> dict[str, Any]:
    predict = {
        "summary": "TensorFlow Serving's REST API and KServe's v1: predict",
        "parameters": _PREPARE,
        "requestBody": {"required": True, "content": {JSON: {"schema": ref("Instances")}}},
        "responses": {"200": _answer("The predictions.", ref("V1Predictions")), **_errors("ProtocolError")},
    }
    models = object_of({"models": list_of("string")})
    found = {"/v1/models": _get("KServe's v1: the models", models)}
    for path in (v1.PATH, *map(v1.path_of, versions)):
        model = path.decode()
        found[model] = _get("TensorFlow Serving's and KServe's v1: the model's state", ref("V1Model"))
        found[f"{model}:predict"] = {"post": predict, "put": predict}
    return found


def _about() -> dict[str, Any]:
    html_answer = {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}
    errors = _errors("Error", "401", "403", "405")
    return {
        PATH.decode(): {
            "get": {
                "summary": "This document",
                "responses": {"200": _answer("OpenAPI 3.1.", {"type": "object"}), **errors},
            }
        },
        HTML_PATH.decode(): {
            "get": {"summary": "This document as a page", "responses": {"200": html_answer, **errors}}
        },
    }


def _get(summary: str, schema: Schema, *, has_503: bool = False, takes_key: bool = True) -> dict[str, Any]:
    answers = {"200": _answer(summary, schema)} | ({"503": _answer("Not ready.", schema)} if has_503 else {})
    errors = _errors("ProtocolError", *(["401", "403"] if takes_key else []), "405")
    security = {} if takes_key else {"security": list[Any]()}
    return {"get": {"summary": summary, **security, "responses": {**answers, **errors}}}


_REASONS: Final = {
    "400": "The request is invalid; the message says what to change.",
    "401": "No key, or one that is unknown, revoked or expired; only if the server requires keys.",
    "403": "The key has another scope.",
    "405": "The path does not support the method.",
    "408": "The request did not arrive in time.",
    "413": "The request exceeds a limit of bytes, pixels or images.",
    "415": "The media type is not supported.",
    "429": "The server is overloaded: retry in a moment.",
    "431": "The headers are too long.",
    "503": "The engine does not answer: retry later.",
}


def _errors(schema: str, *statuses: str) -> dict[str, Any]:
    return {status: _answer(_REASONS[status], ref(schema)) for status in statuses or _REASONS}


def _answer(description: str, schema: Schema, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}, **(more or {})}}


def _page(document: Mapping[str, Any]) -> str:
    info = document["info"]
    rows = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td></tr>\n"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method != "put"
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{html.escape(info["title"])}</title></head>
<body>
<h1>{html.escape(info["title"])} {html.escape(info["version"])}</h1>
<p>{html.escape(info["summary"])} {html.escape(info["description"])}</p>
<table>
{rows}</table>
<p>The complete description, for programs: <a href="{PATH.decode()}">{PATH.decode()}</a>.</p>
</body>
</html>
"""
