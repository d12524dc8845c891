"""The schemas of the OpenAPI document: the bodies and answers of each protocol."""

from collections.abc import Sequence
from typing import Final

from fashion_mnist.task import Task
from gateway.protocols import oip
from gateway.protocols.schemas import Schema, list_of, object_of, ref

_PROBABILITY: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1.000001}
_TEXT: Final[Schema] = {"type": "string"}


def _known(task: Task) -> dict[str, Schema]:
    """What two protocols say of an image besides its probabilities."""
    classes = len(task.classes)
    return {
        "label": {"enum": list(task.classes)},
        "index": {"type": "integer", "minimum": 0, "maximum": classes - 1},
        "unknown": {
            "type": "boolean",
            "description": "Whether the image probably shows none of the classes: the score is above the threshold in "
            "the model's card.",
        },
        "unknown_score": {"type": "number", "minimum": 1, "maximum": classes},
    }


def schemas(task: Task, versions: Sequence[str]) -> dict[str, Schema]:
    """All schemas by name, with the current versions of the model."""
    return {**_images(task), **_native(task, versions), **_oip(versions), **_v1(task)}


def _some(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _exactly(count: int, items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


def _images(task: Task) -> dict[str, Schema]:
    pixel: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
    channels, height, width = task.geometry
    rows = _exactly(height, _exactly(width, pixel))
    forms = [*([rows] if channels == 1 else []), _exactly(channels, rows), _exactly(task.image_bytes, pixel)]
    file: Schema = {"type": "string", "description": "An image file in base64."}
    named: Schema = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": True}
    some = _some(ref("Image"))
    return {
        "Image": {"anyOf": [*forms, file, named]},
        "Images": {"anyOf": [ref("Image"), some, object_of({"instances": some})]},
    }


def _native(task: Task, versions: Sequence[str]) -> dict[str, Schema]:
    probabilities: Schema = {
        "type": "object",
        "properties": dict.fromkeys(task.classes, _PROBABILITY),
        "additionalProperties": False,
    }
    prediction = object_of({"probabilities": probabilities, **_known(task)}, adjusted=list_of("string"))
    error = object_of({"code": _TEXT, "message": _TEXT}, index={"type": "integer", "minimum": 0})
    return {
        "TopK": {"type": "integer", "minimum": 1, "maximum": len(task.classes)},
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
    names = list(oip.OUTPUTS)
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


def _v1(task: Task) -> dict[str, Schema]:
    prediction = object_of(
        {
            "probabilities": {"type": "array", "items": _PROBABILITY},
            **_known(task),
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
