"""The description of the HTTP API: an OpenAPI 3.1 document.

https://spec.openapis.org/oas/v3.1.0
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from fashion_mnist.predictions import JSON, OCTET_STREAM, Answer
from fashion_mnist.preparation import MODES
from fashion_mnist.task import Task
from gateway.protocols import native, oip, oip_rest, openapi_page, v1
from gateway.protocols.openapi_schemas import schemas
from gateway.protocols.schemas import Schema, answer, errors, list_of, object_of, ref
from gateway.types.page import Offered, Page

PATH: Final = b"/openapi.json"
HTML_PATH: Final = b"/docs"


def pages(task: Task, offered: Offered, *, page: bool) -> dict[bytes, Page]:
    """The document; `page` is whether the web page and its requests are served."""
    as_json = Answer(200, JSON, json.dumps(describe(task, offered, page=page)).encode())
    return {PATH: Page(as_json, as_json)}


def describe(task: Task, offered: Offered, *, page: bool = True) -> dict[str, Any]:
    """The document, with the current versions of the model."""
    versions = list(offered.ready)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": task.title,
            "version": offered.default,
            "summary": f"Classifies images, each of one {task.noun}, into {len(task.classes)} classes.",
            "description": "One model behind three protocols: its own, the Open Inference Protocol, and TensorFlow "
            "Serving's. Several versions may be loaded; a path without a version refers to the default. The Open "
            "Inference Protocol is also served over gRPC, on its own port. If the server requires keys, send "
            "`Authorization: Bearer KEY`; health checks and this document need none.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            **_native(task, versions),
            **(openapi_page.paths(_bodies({"prepare": {"enum": list(MODES)}}), _PREPARE) if page else {}),
            **_health(),
            **_oip(task, versions),
            **_v1(task, versions),
            **_about(),
        },
        "components": {
            "schemas": schemas(task, versions) | (openapi_page.schemas(task, versions) if page else {}),
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


def _bodies(fields: Schema) -> dict[str, Any]:
    """The kinds of bodies that hold images; `fields` are those of a form that are none."""
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
            "properties": fields,
        }
    }
    return bodies


def _native(task: Task, versions: Sequence[str]) -> dict[str, Any]:
    bodies = _bodies({"top_k": ref("TopK"), "prepare": {"enum": list(MODES)}})
    operation = {
        "summary": "Predict one or more images of any format",
        "description": "A PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF file, raw bytes "
        f"({task.image_bytes} per image), .npy, IDX, JSON, or a form of these. "
        "The first bytes determine the format. If one of several images is invalid, the answer has "
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
            "200": answer(
                "The predictions; with `Accept: application/octet-stream` only the probabilities, float32 "
                f"[n, {len(task.classes)}].",
                ref("Predictions"),
                {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}},
            ),
            **errors("Error"),
        },
    }
    names = {native.path(task): "", **{native.path_of(task, version): f"_{version}" for version in versions}}
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
        answers = {"200": answer(summary, status)} | ({"503": answer("Not ready.", status)} if words[1:] else {})
        found[path] = {"get": {"summary": summary, "security": [], "responses": {**answers, **errors("Error", "405")}}}
    return found


def _oip(task: Task, versions: Sequence[str]) -> dict[str, Any]:
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
        "description": f"One input, `{oip.INPUT}`: {oip.tensors(task).input_forms}, in base64. "
        "In requests and answers, tensors may follow the JSON as bytes: then "
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
            "200": answer(
                "The outputs.",
                ref("InferResponse"),
                {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}},
            ),
            **errors("ProtocolError"),
        },
    }
    for path in (oip_rest.path(task), *(oip_rest.path_of(task, version) for version in versions)):
        model = path.decode()
        found[model] = _get("Open Inference Protocol: the model", ref("Model"))
        found[f"{model}/ready"] = _get("Open Inference Protocol: whether it is ready", ready, has_503=True)
        found[f"{model}/infer"] = {"post": infer, "put": infer}
    return found


def _v1(task: Task, versions: Sequence[str]) -> dict[str, Any]:
    predict = {
        "summary": "TensorFlow Serving's REST API and KServe's v1: predict",
        "parameters": _PREPARE,
        "requestBody": {"required": True, "content": {JSON: {"schema": ref("Instances")}}},
        "responses": {"200": answer("The predictions.", ref("V1Predictions")), **errors("ProtocolError")},
    }
    models = object_of({"models": list_of("string")})
    found = {"/v1/models": _get("KServe's v1: the models", models)}
    for path in (v1.path(task), *(v1.path_of(task, version) for version in versions)):
        model = path.decode()
        found[model] = _get("TensorFlow Serving's and KServe's v1: the model's state", ref("V1Model"))
        found[f"{model}:predict"] = {"post": predict, "put": predict}
    return found


def _about() -> dict[str, Any]:
    page = {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}
    failures = errors("Error", "405")
    return {
        PATH.decode(): {
            "get": {
                "summary": "This document",
                "security": [],
                "responses": {"200": answer("OpenAPI 3.1.", {"type": "object"}), **failures},
            }
        },
        HTML_PATH.decode(): {
            "get": {
                "summary": "This document as a page, to try what it describes",
                "security": [],
                "responses": {"200": page, "304": {"description": "As before."}, **failures},
            }
        },
    }


def _array(items: Schema, length: int) -> Schema:
    return {"type": "array", "items": items, "minItems": length, "maxItems": length}


def _get(summary: str, schema: Schema, *, has_503: bool = False, takes_key: bool = True) -> dict[str, Any]:
    answers = {"200": answer(summary, schema)} | ({"503": answer("Not ready.", schema)} if has_503 else {})
    failures = errors("ProtocolError", *(["401", "403"] if takes_key else []), "405")
    security = {} if takes_key else {"security": list[Any]()}
    return {"get": {"summary": summary, **security, "responses": {**answers, **failures}}}
