"""The part of the OpenAPI document that describes what the web page asks."""

from collections.abc import Sequence
from typing import Any, Final

from fashion_mnist.predictions import OCTET_STREAM
from fashion_mnist.task import Task
from gateway.protocols.explain import PATH
from gateway.protocols.schemas import Schema, answer, errors, list_of, object_of, ref

_NUMBER: Final[Schema] = {"type": "number"}
_NUMBERS: Final[Schema] = {"type": "array", "items": {"type": "number"}}
_SHAPE: Final[Schema] = {"type": "array", "items": {"type": "integer", "minimum": 1}}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_MAYBE: Final[Schema] = {"type": ["number", "null"]}
_NAME: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_BINARY: Final[Schema] = {"type": "string", "format": "binary"}
_AS_BEFORE: Final = {"304": {"description": "As before: what If-None-Match names."}}


def paths(bodies: dict[str, Any], prepare: list[dict[str, Any]]) -> dict[str, Any]:
    """The paths; `bodies` are the kinds that hold images, `prepare` the parameters that say how these are prepared."""
    switches = [
        {"name": name, "in": "query", "description": what, "schema": {"enum": ["0", "1"], "default": "1"}}
        for name, what in (("occlusion", "Whether to make the occlusion map."), ("steps", "Whether to show each step."))
    ]
    explain = {
        "summary": "What each layer of the network makes of one image",
        "description": "Every layer's output; by how much the answer's probability falls where a part of the image is "
        "black; and a picture of each step of preparation.",
        "parameters": [*prepare, *switches],
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": answer(
                "The explanation; with `Accept: application/octet-stream` the float32 of all layers in order, and the "
                "occlusion map's behind them.",
                ref("Explanation"),
                {OCTET_STREAM: {"schema": _BINARY}},
            ),
            **errors("Error"),
            "404": answer("The version has no layers to show.", ref("Error")),
        },
    }
    return {
        PATH.decode(): {
            "post": {"operationId": "explain", **explain},
            "put": {"operationId": "put_explain", **explain},
        },
        "/network.json": _file("The network: layers, what each follows from, and the weights", "Network"),
        "/mistakes.json": _file("The confusion matrix, and test images of each of its cells", "Mistakes"),
        "/status.json": {
            "get": {
                "summary": "How the service is; without a key only whether it is ready",
                "security": [{"key": []}, {}],
                "responses": {"200": answer("How it is.", ref("Status")), **errors("Error", "405")},
            }
        },
    }


def schemas(task: Task, versions: Sequence[str]) -> dict[str, Schema]:
    """The schemas of what they answer."""
    matrix: Schema = {"type": "array", "items": {"type": "array", "items": _COUNT}}
    occlusion = object_of({"window": _COUNT, "stride": _COUNT, "shape": _SHAPE}, values=_NUMBERS)
    version: Schema = {"enum": list(versions)}
    classes: Schema = {"const": list(task.classes)}
    return {
        "Explanation": object_of(
            {
                "model_version": version,
                "prediction": ref("Prediction"),
                "adjusted": list_of("string"),
                "input": object_of({"shape": _SHAPE, "values": {"type": "array", "items": _COUNT}}),
                "layers": {
                    "type": "array",
                    "items": object_of({"name": _NAME, "shape": _SHAPE, "values": _NUMBERS}),
                },
            },
            occlusion=occlusion,
            preparation={
                "type": "array",
                "items": object_of({"step": _NAME, "width": _COUNT, "height": _COUNT, "png": _NAME}),
            },
        ),
        "Network": object_of(
            {
                "model_version": version,
                "classes": classes,
                "geometry": {"type": "object", "additionalProperties": _COUNT},
                **dict.fromkeys(("activation", "views"), _NAME),
                **dict.fromkeys(("pool", "gamma", "mean", "std", "temperature"), _NUMBER),
                "description": {"type": "object"},
                "layers": {
                    "type": "array",
                    "items": object_of(
                        {"name": _NAME, "kind": _NAME, "shape": _SHAPE, "from": _NAME}, weight=_NAME, bias=_NAME
                    ),
                },
                "occlusion": occlusion,
                "weights": {
                    "type": "object",
                    "description": "Little-endian float32 in base64, by name.",
                    "additionalProperties": object_of({"shape": _SHAPE, "values": _NAME}),
                },
            }
        ),
        "Mistakes": object_of(
            {
                "model_version": version,
                "classes": classes,
                "images": _COUNT,
                "matrix": matrix,
                "sprite": object_of({"url": _NAME, "tile": {"type": "object"}, "columns": _COUNT, "tiles": _COUNT}),
                "cells": {"type": "array", "items": matrix},
                "tiles": {
                    "type": "array",
                    "items": object_of(
                        {"image": _COUNT, "label": _COUNT, "answered": _COUNT, "probability": {"type": "number"}}
                    ),
                },
            }
        ),
        "Status": object_of(
            {"ready": _FLAG, "keys": _FLAG},
            reason=_NAME,
            default_version=version,
            versions={
                "type": "array",
                "items": object_of({"version": version, "default": _FLAG, "ready": _FLAG, "accuracy": _MAYBE}),
            },
            traffic=object_of(
                {
                    "window_s": {"type": "number"},
                    "requests_per_s": {"type": "number"},
                    "p50_ms": _MAYBE,
                    "p99_ms": _MAYBE,
                }
            ),
            drift={
                "anyOf": [
                    {"type": "null"},
                    object_of(
                        {
                            "images": _COUNT,
                            "window": _COUNT,
                            "figures": {
                                "type": "array",
                                "items": object_of({"name": _NAME, "value": _MAYBE, "threshold": {"type": "number"}}),
                            },
                        }
                    ),
                ]
            },
        ),
    }


def _file(summary: str, schema: str) -> dict[str, Any]:
    failures = errors("Error", "401", "403", "405")
    missing = {"404": answer("The version has none.", ref("Error"))}
    found = {"200": answer("All of it.", ref(schema)), **_AS_BEFORE}
    return {"get": {"summary": summary, "responses": {**found, **failures, **missing}}}
