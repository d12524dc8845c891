"""The schemas of the OpenAPI document: the bodies and answers of each protocol."""

from collections.abc import Sequence
from typing import Final

from fashion_mnist.classes import CLASSES, GEOMETRY, IMAGE_BYTES
from gateway.protocols import oip
from gateway.protocols.schemas import Schema, list_of, object_of, ref

_INDEX: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": len(CLASSES) - 1}
_LABEL: Final[Schema] = {"enum": list(CLASSES)}
_PROBABILITY: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1.000001}
_TEXT: Final[Schema] = {"type": "string"}
_UNKNOWN: Final[dict[str, Schema]] = {
    "unknown": {
        "type": "boolean",
        "description": "Whether the image probably shows none of the classes: the score is above the threshold in "
        "the model's card.",
    },
    "unknown_score": {"type": "number", "minimum": 1, "maximum": len(CLASSES)},
}


def schemas(versions: Sequence[str]) -> dict[str, Schema]:
    """All schemas by name, with the current versions of the model."""
    return {**_images(), **_native(versions), **_oip(versions), **_v1()}


def _some(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _exactly(count: int, items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


def _images() -> dict[str, Schema]:
    pixel: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
    rows = _exactly(GEOMETRY.height, _exactly(GEOMETRY.width, pixel))
    file: Schema = {"type": "string", "description": "An image file in base64."}
    named: Schema = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": True}
    some = _some(ref("Image"))
    return {
        "Image": {"anyOf": [rows, _exactly(1, rows), _exactly(IMAGE_BYTES, pixel), file, named]},
        "Images": {"anyOf": [ref("Image"), some, object_of({"instances": some})]},
    }


def _native(versions: Sequence[str]) -> dict[str, Schema]:
    probabilities: Schema = {
        "type": "object",
        "properties": dict.fromkeys(CLASSES, _PROBABILITY),
        "additionalProperties": False,
    }
    prediction = object_of(
        {"label": _LABEL, "index": _INDEX, "probabilities": probabilities, **_UNKNOWN}, adjusted=list_of("string")
    )
    error = object_of({"code": _TEXT, "message": _TEXT}, index={"type": "integer", "minimum": 0})
    return {
        "TopK": {"type": "integer", "minimum": 1, "maximum": len(CLASSES)},
        "Prediction": prediction,
        "Predictions": object_of(
            {
                "predictions": _some({"anyOf": [ref("Prediction"), ref("Error")]}),
                "model_version": {"enum": list(versions)},
            }
        ),
        "Error": object_of({"error": error}),
    }


def _oip(versions: Sequence[str]) -> dict[str, Schema]:
    tensor = object_of({"name": _TEXT, "datatype": _TEXT, "shape": list_of("integer")})
    tensors: Schema = {"type": "array", "items": tensor}
    parameters: Schema = {"type": ["object", "null"]}
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4}
    images = object_of(
        {
            "name": {"const": oip.INPUT},
            "datatype": {"enum": ["UINT8", "BYTES"]},
            "shape": shape,
            "data": {"type": "array", "minItems": 1},
        },
        parameters=parameters,
    )
    names = [output.name for output in oip.OUTPUTS]
    output = object_of({"name": {"enum": names}}, parameters=parameters)
    return {
        "ProtocolError": object_of({"error": _TEXT}),
        "Model": object_of(
            {
                "name": _TEXT,
                "versions": list_of("string"),
                "platform": _TEXT,
                "inputs": tensors,
                "outputs": tensors,
            }
        ),
        "InferRequest": object_of(
            {"inputs": _exactly(1, images)},
            id={"type": ["string", "null"]},
            parameters=parameters,
            outputs={"type": "array", "maxItems": len(names), "items": output},
        ),
        "InferResponse": object_of(
            {"model_name": _TEXT, "model_version": {"enum": list(versions)}, "outputs": tensors}, id=_TEXT
        ),
    }


def _v1() -> dict[str, Schema]:
    prediction = object_of(
        {
            "probabilities": {"type": "array", "items": _PROBABILITY},
            "index": _INDEX,
            "label": _LABEL,
            **_UNKNOWN,
        },
        adjusted=list_of("string"),
    )
    return {
        "Instances": object_of({"instances": _some(ref("Image"))}, signature_name={}),
        "V1Predictions": object_of({"predictions": {"type": "array", "items": prediction}}),
        "V1Model": object_of(
            {
                "name": _TEXT,
                "ready": {"type": "boolean"},
                "model_version_status": {"type": "array", "items": {"type": "object"}},
            }
        ),
    }
