"""What the HTTP API is, for programs, and for the page that shows it to people: an OpenAPI 3.1 document.

https://spec.openapis.org/oas/v3.1.0
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from fashion_mnist.predictions import JSON, OCTET_STREAM, Answer
from fashion_mnist.preparation import MODES
from fashion_mnist.task import Task
from gateway.protocols import native, oip, oip_rest, openapi_page, v1
from gateway.protocols.schemas import Schema, answer, errors, list_of, object_of, ref
from gateway.types.page import Offered, Page

PATH: Final = b"/openapi.json"
HTML_PATH: Final = b"/docs"


def pages(task: Task, offered: Offered, *, page: bool) -> dict[bytes, Page]:
    """The document; `page` says whether the web page is served, and what it asks."""
    as_json = Answer(200, JSON, json.dumps(describe(task, offered, page=page)).encode())
    return {PATH: Page(as_json, as_json)}


def describe(task: Task, offered: Offered, *, page: bool = True) -> dict[str, Any]:
    """The document, with the versions of the model that there are now."""
    versions = list(offered.ready)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": task.title,
            "version": offered.default,
            "summary": f"Which of {len(task.classes)} kinds of {task.noun} an image shows.",
            "description": "One model by three protocols: its own, the Open Inference Protocol, and TensorFlow "
            "Serving's. Several versions of it may be there; a path without one means the default. The Open Inference "
            "Protocol is spoken over gRPC too, at a port of its own. Where the server asks for keys, send "
            "`Authorization: Bearer KEY`; health and this document need none.",
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
            "schemas": _schemas(task, versions) | (openapi_page.schemas(task, versions) if page else {}),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "Only where the server asks for keys."}
            },
        },
        "security": [{"key": []}, {}],
    }


_IMAGE_FILES: Final = ("png", "jpeg", "webp", "bmp", "gif", "tiff", "avif")


_PREPARE: Final = [
    {
        "name": name,
        "in": place,
        "description": "How images become such as the network knows: auto prepares photographs.",
        "schema": {"enum": values},
    }
    # An empty header is none.
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
        "summary": "Predict images of any kind, one or many",
        "description": "A PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF file, raw bytes "
        f"({task.image_bytes} an image), .npy, IDX, JSON, or a form of these. "
        "The first bytes say which it is. Of several images a bad one has its error in its place.",
        "parameters": [
            {
                "name": "top_k",
                "in": "query",
                "description": "How many classes, the likeliest first.",
                "schema": ref("TopK"),
            },
            *_PREPARE,
            {
                "name": "X-Request-Id",
                "in": "header",
                "description": "A name for the request, which the answer and the log repeat.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": answer(
                "The predictions; with `Accept: application/octet-stream` the probabilities alone, float32 "
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
    said = {
        "/health/live": ("Whether the process lives", ["live"]),
        "/health/ready": ("Whether a real image gets its right label", ["ready", "not ready"]),
        "/health/startup": ("Whether it has got it once", ["started", "starting"]),
        "/ping": ("The same as ready, in TorchServe's words", ["Healthy", "Unhealthy"]),
    }
    found = {}
    for path, (summary, words) in said.items():
        status = object_of({"status": {"enum": words}}, reason={"type": "string"})
        answers = {"200": answer(summary, status)} | ({"503": answer("Not now.", status)} if words[1:] else {})
        found[path] = {"get": {"summary": summary, "security": [], "responses": {**answers, **errors("Error", "405")}}}
    return found


def _oip(task: Task, versions: Sequence[str]) -> dict[str, Any]:
    ready = object_of({"ready": {"type": "boolean"}}, name={"type": "string"})
    live = object_of({"live": {"type": "boolean"}})
    metadata = object_of({"name": {"type": "string"}, "version": {"type": "string"}, "extensions": list_of("string")})
    found = {
        "/v2": _get("Open Inference Protocol: the server", metadata),
        "/v2/health/live": _get("Open Inference Protocol: whether it lives", live, takes_key=False),
        "/v2/health/ready": _get(
            "Open Inference Protocol: whether it is ready", ready, may_be_away=True, takes_key=False
        ),
    }
    infer = {
        "summary": "Open Inference Protocol: predict",
        "description": f"One input, `{oip.INPUT}`: {oip.tensors(task).input_forms}, in base64. Tensors may "
        "stand behind the JSON as bytes, both ways: then Inference-Header-Content-Length is the length of the JSON.",
        "parameters": [
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "description": "The length of the JSON, where tensors stand behind it.",
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
        found[f"{model}/ready"] = _get("Open Inference Protocol: whether it is ready", ready, may_be_away=True)
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


def _schemas(task: Task, versions: Sequence[str]) -> dict[str, Any]:
    pixel: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
    (channels, height, width), classes = task.geometry, len(task.classes)
    rows = _array(_array(pixel, width), height)
    flat = _array(pixel, task.image_bytes)
    text: Schema = {"type": "string", "description": "An image file in base64."}
    one: Schema = {"anyOf": [*([rows] if channels == 1 else []), _array(rows, channels), flat, text]}
    image: Schema = {
        "anyOf": [
            *one["anyOf"],
            {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": True},
        ]
    }
    probability: Schema = {"type": "number", "minimum": 0, "maximum": 1.000001}
    index: Schema = {"type": "integer", "minimum": 0, "maximum": classes - 1}
    label: Schema = {"enum": list(task.classes)}
    unknown: dict[str, Schema] = {
        "unknown": {
            "type": "boolean",
            "description": "Whether the image probably shows none of the classes: the score is above the threshold in "
            "the model's card.",
        },
        "unknown_score": {"type": "number", "minimum": 1, "maximum": classes},
    }
    some: Schema = {"type": "array", "items": ref("Image"), "minItems": 1}
    prediction = object_of(
        {
            "label": label,
            "index": index,
            "probabilities": {
                "type": "object",
                "properties": dict.fromkeys(task.classes, probability),
                "additionalProperties": False,
            },
            **unknown,
        },
        adjusted=list_of("string"),
    )
    error = object_of(
        {"code": {"type": "string"}, "message": {"type": "string"}}, index={"type": "integer", "minimum": 0}
    )
    parameters: Schema = {"type": ["object", "null"]}
    name: Schema = {"const": oip.INPUT}
    tensor = object_of(
        {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
        }
    )
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4}
    data: Schema = {"type": "array", "minItems": 1}
    output_names = list(oip.OUTPUTS)
    return {
        "TopK": {"type": "integer", "minimum": 1, "maximum": classes},
        "Image": image,
        "Images": {
            "anyOf": [ref("Image"), some, object_of({"instances": some})],
        },
        "Prediction": prediction,
        "Predictions": object_of(
            {
                "predictions": {
                    "type": "array",
                    "items": {"anyOf": [ref("Prediction"), ref("Error")]},
                    "minItems": 1,
                },
                "model_version": {"enum": list(versions)},
            }
        ),
        "Error": object_of({"error": error}),
        "ProtocolError": object_of({"error": {"type": "string"}}),
        "Model": object_of(
            {
                "name": {"type": "string"},
                "versions": list_of("string"),
                "platform": {"type": "string"},
                "inputs": {"type": "array", "items": tensor},
                "outputs": {"type": "array", "items": tensor},
            }
        ),
        "InferRequest": object_of(
            {
                "inputs": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1,
                    "items": object_of(
                        {"name": name, "datatype": {"enum": ["UINT8", "BYTES"]}, "shape": shape, "data": data},
                        parameters=parameters,
                    ),
                }
            },
            id={"type": ["string", "null"]},
            parameters=parameters,
            outputs={
                "type": "array",
                "maxItems": len(output_names),
                "items": object_of({"name": {"enum": output_names}}, parameters=parameters),
            },
        ),
        "InferResponse": object_of(
            {
                "model_name": {"type": "string"},
                "model_version": {"enum": list(versions)},
                "outputs": {"type": "array", "items": tensor},
            },
            id={"type": "string"},
        ),
        "Instances": object_of({"instances": some}, signature_name={}),
        "V1Predictions": object_of(
            {
                "predictions": {
                    "type": "array",
                    "items": object_of(
                        {
                            "probabilities": {"type": "array", "items": probability},
                            "index": index,
                            "label": label,
                            **unknown,
                        },
                        adjusted=list_of("string"),
                    ),
                }
            }
        ),
        "V1Model": object_of(
            {
                "name": {"type": "string"},
                "ready": {"type": "boolean"},
                "model_version_status": {"type": "array", "items": {"type": "object"}},
            }
        ),
    }


def _array(items: Schema, length: int) -> Schema:
    return {"type": "array", "items": items, "minItems": length, "maxItems": length}


def _get(summary: str, schema: Schema, *, may_be_away: bool = False, takes_key: bool = True) -> dict[str, Any]:
    answers = {"200": answer(summary, schema)} | ({"503": answer("Not now.", schema)} if may_be_away else {})
    failures = errors("ProtocolError", *(["401", "403"] if takes_key else []), "405")
    security = {} if takes_key else {"security": list[Any]()}
    return {"get": {"summary": summary, **security, "responses": {**answers, **failures}}}
