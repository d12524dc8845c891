"""What the HTTP API is, for programs: an OpenAPI 3.1 document, and a plain page made of it for people.

https://spec.openapis.org/oas/v3.1.0
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fashion_mnist.classes import CLASSES, GEOMETRY, IMAGE_BYTES
from fashion_mnist.predictions import JSON, OCTET_STREAM, Answer
from fashion_mnist.preparation import MODES
from gateway.protocols import native, oip, oip_rest, v1
from gateway.types.page import Offered, Page

PATH: Final = b"/openapi.json"
HTML_PATH: Final = b"/docs"

_HTML: Final = "text/html; charset=utf-8"

Schema = dict[str, Any]


def pages(offered: Offered) -> dict[bytes, Page]:
    """The document, and the page."""
    document = describe(offered)
    as_json = Answer(200, JSON, json.dumps(document).encode())
    as_html = Answer(200, _HTML, _page(document).encode())
    return {PATH: Page(as_json, as_json), HTML_PATH: Page(as_html, as_html)}


def describe(offered: Offered) -> dict[str, Any]:
    """The document, with the versions of the model that there are now."""
    versions = list(offered.ready)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fashion-MNIST",
            "version": offered.default,
            "summary": "Which of ten kinds of garment an image shows.",
            "description": "One model by three protocols: its own, the Open Inference Protocol, and TensorFlow "
            "Serving's. Several versions of it may be there; a path without one means the default. The Open Inference "
            "Protocol is spoken over gRPC too, at a port of its own. Where the server asks for keys, send "
            "`Authorization: Bearer KEY`; health needs none.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {**_native(versions), **_health(), **_oip(versions), **_v1(versions), **_about()},
        "components": {
            "schemas": _schemas(versions),
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


def _native(versions: Sequence[str]) -> dict[str, Any]:
    bodies: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in (*(f"image/{name}" for name in _IMAGE_FILES), OCTET_STREAM)
    }
    bodies[JSON] = {"schema": _ref("Images")}
    bodies["multipart/form-data"] = {
        "schema": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "string", "format": "binary"},
            "properties": {"top_k": _ref("TopK"), "prepare": {"enum": list(MODES)}},
        }
    }
    operation = {
        "summary": "Predict images of any kind, one or many",
        "description": "A PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF file, raw bytes (784 an image), .npy, IDX, JSON, or "
        "a form of these. "
        "The first bytes say which it is. Of several images a bad one has its error in its place.",
        "parameters": [
            {
                "name": "top_k",
                "in": "query",
                "description": "How many classes, the likeliest first.",
                "schema": _ref("TopK"),
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
            "200": _answer(
                "The predictions; with `Accept: application/octet-stream` the probabilities alone, float32 [n, 10].",
                _ref("Predictions"),
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
    said = {
        "/health/live": ("Whether the process lives", ["live"]),
        "/health/ready": ("Whether a real image gets its right label", ["ready", "not ready"]),
        "/health/startup": ("Whether it has got it once", ["started", "starting"]),
        "/ping": ("The same as ready, in TorchServe's words", ["Healthy", "Unhealthy"]),
    }
    found = {}
    for path, (summary, words) in said.items():
        status = _object({"status": {"enum": words}}, reason={"type": "string"})
        answers = {"200": _answer(summary, status)} | ({"503": _answer("Not now.", status)} if words[1:] else {})
        found[path] = {"get": {"summary": summary, "security": [], "responses": {**answers, **_errors("Error", "405")}}}
    return found


def _oip(versions: Sequence[str]) -> dict[str, Any]:
    ready = _object({"ready": {"type": "boolean"}}, name={"type": "string"})
    live = _object({"live": {"type": "boolean"}})
    metadata = _object({"name": {"type": "string"}, "version": {"type": "string"}, "extensions": _list("string")})
    found = {
        "/v2": _get("Open Inference Protocol: the server", metadata),
        "/v2/health/live": _get("Open Inference Protocol: whether it lives", live, takes_key=False),
        "/v2/health/ready": _get(
            "Open Inference Protocol: whether it is ready", ready, may_be_away=True, takes_key=False
        ),
    }
    infer = {
        "summary": "Open Inference Protocol: predict",
        "description": f"One input, `{oip.INPUT}`: UINT8 of shape [n, 1, 28, 28] or [n, 28, 28], or BYTES of shape [n] "
        "with an image file in each, in base64. Tensors may stand behind the JSON as bytes, both ways: then "
        "Inference-Header-Content-Length is the length of the JSON.",
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
                JSON: {"schema": _ref("InferRequest")},
                OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": _answer(
                "The outputs.",
                _ref("InferResponse"),
                {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}},
            ),
            **_errors("ProtocolError"),
        },
    }
    for path in (oip_rest.PATH, *map(oip_rest.path_of, versions)):
        model = path.decode()
        found[model] = _get("Open Inference Protocol: the model", _ref("Model"))
        found[f"{model}/ready"] = _get("Open Inference Protocol: whether it is ready", ready, may_be_away=True)
        found[f"{model}/infer"] = {"post": infer, "put": infer}
    return found


def _v1(versions: Sequence[str]) -> dict[str, Any]:
    predict = {
        "summary": "TensorFlow Serving's REST API and KServe's v1: predict",
        "parameters": _PREPARE,
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref("Instances")}}},
        "responses": {"200": _answer("The predictions.", _ref("V1Predictions")), **_errors("ProtocolError")},
    }
    models = _object({"models": _list("string")})
    found = {"/v1/models": _get("KServe's v1: the models", models)}
    for path in (v1.PATH, *map(v1.path_of, versions)):
        model = path.decode()
        found[model] = _get("TensorFlow Serving's and KServe's v1: the model's state", _ref("V1Model"))
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


def _schemas(versions: Sequence[str]) -> dict[str, Any]:
    pixel: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
    row: Schema = {"type": "array", "items": pixel, "minItems": GEOMETRY.width, "maxItems": GEOMETRY.width}
    rows: Schema = {"type": "array", "items": row, "minItems": GEOMETRY.height, "maxItems": GEOMETRY.height}
    flat: Schema = {"type": "array", "items": pixel, "minItems": IMAGE_BYTES, "maxItems": IMAGE_BYTES}
    text: Schema = {"type": "string", "description": "An image file in base64."}
    one: Schema = {"anyOf": [rows, {"type": "array", "items": rows, "minItems": 1, "maxItems": 1}, flat, text]}
    image: Schema = {
        "anyOf": [
            *one["anyOf"],
            {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": True},
        ]
    }
    probability: Schema = {"type": "number", "minimum": 0, "maximum": 1.000001}
    index: Schema = {"type": "integer", "minimum": 0, "maximum": len(CLASSES) - 1}
    label: Schema = {"enum": list(CLASSES)}
    unknown: dict[str, Schema] = {
        "unknown": {
            "type": "boolean",
            "description": "Whether the image probably shows none of the classes: the score is above the threshold in "
            "the model's card.",
        },
        "unknown_score": {"type": "number", "minimum": 1, "maximum": len(CLASSES)},
    }
    some: Schema = {"type": "array", "items": _ref("Image"), "minItems": 1}
    prediction = _object(
        {
            "label": label,
            "index": index,
            "probabilities": {
                "type": "object",
                "properties": dict.fromkeys(CLASSES, probability),
                "additionalProperties": False,
            },
            **unknown,
        },
        adjusted=_list("string"),
    )
    error = _object(
        {"code": {"type": "string"}, "message": {"type": "string"}}, index={"type": "integer", "minimum": 0}
    )
    parameters: Schema = {"type": ["object", "null"]}
    name: Schema = {"const": oip.INPUT}
    tensor = _object(
        {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
        }
    )
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4}
    data: Schema = {"type": "array", "minItems": 1}
    output_names = [output.name for output in oip.OUTPUTS]
    return {
        "TopK": {"type": "integer", "minimum": 1, "maximum": len(CLASSES)},
        "Image": image,
        "Images": {
            "anyOf": [_ref("Image"), some, _object({"instances": some})],
        },
        "Predictions": _object(
            {
                "predictions": {
                    "type": "array",
                    "items": {"anyOf": [prediction, _ref("Error")]},
                    "minItems": 1,
                },
                "model_version": {"enum": list(versions)},
            }
        ),
        "Error": _object({"error": error}),
        "ProtocolError": _object({"error": {"type": "string"}}),
        "Model": _object(
            {
                "name": {"type": "string"},
                "versions": _list("string"),
                "platform": {"type": "string"},
                "inputs": {"type": "array", "items": tensor},
                "outputs": {"type": "array", "items": tensor},
            }
        ),
        "InferRequest": _object(
            {
                "inputs": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1,
                    "items": _object(
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
                "items": _object({"name": {"enum": output_names}}, parameters=parameters),
            },
        ),
        "InferResponse": _object(
            {
                "model_name": {"type": "string"},
                "model_version": {"enum": list(versions)},
                "outputs": {"type": "array", "items": tensor},
            },
            id={"type": "string"},
        ),
        "Instances": _object({"instances": some}, signature_name={}),
        "V1Predictions": _object(
            {
                "predictions": {
                    "type": "array",
                    "items": _object(
                        {
                            "probabilities": {"type": "array", "items": probability},
                            "index": index,
                            "label": label,
                            **unknown,
                        },
                        adjusted=_list("string"),
                    ),
                }
            }
        ),
        "V1Model": _object(
            {
                "name": {"type": "string"},
                "ready": {"type": "boolean"},
                "model_version_status": {"type": "array", "items": {"type": "object"}},
            }
        ),
    }


def _get(summary: str, schema: Schema, *, may_be_away: bool = False, takes_key: bool = True) -> dict[str, Any]:
    answers = {"200": _answer(summary, schema)} | ({"503": _answer("Not now.", schema)} if may_be_away else {})
    errors = _errors("ProtocolError", *(["401", "403"] if takes_key else []), "405")
    security = {} if takes_key else {"security": list[Any]()}
    return {"get": {"summary": summary, **security, "responses": {**answers, **errors}}}


_REASONS: Final = {
    "400": "What was sent is at fault; the message says what to change.",
    "401": "No key, or one that is unknown, revoked or expired; only where the server asks for keys.",
    "403": "The key is for something else.",
    "405": "Another method.",
    "408": "It did not arrive in time.",
    "413": "More than the limit, of bytes, pixels or images.",
    "415": "None of the kinds that are understood.",
    "429": "Too much waits already: again a moment later.",
    "431": "The headers are too long.",
    "503": "The engine does not answer: again later.",
}


def _errors(schema: str, *statuses: str) -> dict[str, Any]:
    return {status: _answer(_REASONS[status], _ref(schema)) for status in statuses or _REASONS}


def _answer(description: str, schema: Schema, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}, **(more or {})}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Mapping[str, Any], **optional: Any) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(kind: str) -> Schema:
    return {"type": "array", "items": {"type": kind}}


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
<p>All of it, for programs: <a href="{PATH.decode()}">{PATH.decode()}</a>.</p>
</body>
</html>
"""
