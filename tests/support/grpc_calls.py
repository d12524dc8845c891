"""Calls of the Open Inference Protocol, by gRPC's own client."""

from typing import Any

import grpc
import numpy as np

from gateway.protocols import inference_pb2 as pb
from tests.support.command import ServeCommand

TIMEOUT_S = 20.0


SERVICE = "/inference.GRPCInferenceService/"


class Stub:
    """The calls of one server."""

    def __init__(self, command: ServeCommand) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{command.state().grpc_port}")

    def __call__(self, name: str, request: Any, **options: Any) -> Any:
        reply = getattr(pb, f"{name}Response")
        call = self.channel.unary_unary(SERVICE + name, type(request).SerializeToString, reply.FromString)
        return call(request, timeout=TIMEOUT_S, **options)

    def infer(self, **request: Any) -> Any:
        return self("ModelInfer", pb.ModelInferRequest(**{"model_name": "fashion_mnist", **request}))


def tensor(datatype: str, shape: list[int], **contents: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"name": "images", "datatype": datatype, "shape": shape}
    return {**said, "contents": contents} if contents else said


def values(response: Any) -> dict[str, list[Any]]:
    """The outputs, raw or typed."""
    found = {}
    for place, output in enumerate(response.outputs):
        if response.raw_output_contents:
            found[output.name] = _unpacked(output.datatype, response.raw_output_contents[place])
        else:
            ((_, contents),) = output.contents.ListFields()
            found[output.name] = list(contents)
    return found


def _unpacked(datatype: str, content: bytes) -> list[Any]:
    if datatype != "BYTES":
        array: list[Any] = np.frombuffer(content, {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}[datatype]).tolist()
        return array
    labels = []
    while content:
        size = int.from_bytes(content[:4], "little")
        labels.append(content[4 : 4 + size])
        content = content[4 + size :]
    return labels
