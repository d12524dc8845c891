"""Calls over gRPC that were once good; the status is OK, or one that says what is wrong with the call."""

from typing import Any

import grpc
import numpy as np
from hypothesis import strategies as st

from fashion_mnist.encoding import encode_image
from fashion_mnist.model_store import model_store_path, model_version
from fashion_mnist.settings import Settings
from gateway.protocols import inference_pb2 as pb
from tests.support.mutations import AT_ONCE, WORDS, Corpus, damaged

GARMENT = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
PNG = encode_image(GARMENT)
ALLOWED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
TIMEOUT_S = 20.0


def _request(datatype: str, shape: list[int], contents: Any = None, **more: Any) -> pb.ModelInferRequest:
    said = {"name": "images", "datatype": datatype, "shape": shape, **({"contents": contents} if contents else {})}
    return pb.ModelInferRequest(model_name="fashion_mnist", inputs=[said], **more)


REQUESTS = Corpus(
    [
        _request("UINT8", [1, 28, 28], raw_input_contents=[GARMENT.tobytes()], id="7"),
        _request("UINT8", [2, 1, 28, 28], {"uint_contents": [0] * 1568}, outputs=[{"name": "label"}]),
        _request("BYTES", [1], {"bytes_contents": [PNG]}, model_version=model_version(model_store_path(Settings()))),
        _request("BYTES", [1], raw_input_contents=[len(PNG).to_bytes(4, "little") + PNG]),
    ]
)
MESSAGES = Corpus(request.SerializeToString() for request in REQUESTS)


@st.composite
def altered_requests(draw: st.DrawFn) -> bytes:
    """A good request, of which up to three things were changed."""
    request = pb.ModelInferRequest()
    request.CopyFrom(REQUESTS[draw(st.integers(0, len(REQUESTS) - 1))])
    words = st.sampled_from(WORDS) | st.text(max_size=9)
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.integers(0, 8)):
            case 0:
                request.inputs.add(name=draw(words), datatype=draw(words), shape=draw(shapes))
            case 1 if request.inputs:
                request.inputs[0].name = draw(words)
            case 2 if request.inputs:
                request.inputs[0].datatype = draw(words)
            case 3 if request.inputs:
                del request.inputs[0].shape[:]
                request.inputs[0].shape.extend(draw(shapes))
            case 4:
                request.outputs.add(name=draw(words))
            case 5:
                request.raw_input_contents.append(draw(st.binary(max_size=20)))
            case 6 if request.inputs:
                request.inputs[0].contents.uint_contents.extend(draw(st.lists(st.integers(0, 2**32 - 1), max_size=3)))
            case 7 if request.inputs:
                request.inputs[0].contents.bytes_contents.append(draw(st.binary(max_size=20)))
            case _:
                request.model_version = draw(words)
    found: bytes = request.SerializeToString()
    return found


shapes = st.lists(st.sampled_from([1, 2, 28, 784]) | st.integers(-(2**63), 2**63 - 1), max_size=4)
messages = altered_requests() | damaged(MESSAGES) | st.binary(max_size=200)
calls = st.lists(messages, min_size=AT_ONCE, max_size=AT_ONCE).map(Corpus)


def check(channel: grpc.Channel, sent: Corpus) -> None:
    """Send messages all at once: each must get its own answer."""
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    futures = [infer.future(content, timeout=TIMEOUT_S) for content in sent]
    for content, call in zip(sent, futures, strict=True):
        told = f"{call.code()} {call.details()!r} for {content[:300]!r}"
        if call.code() is grpc.StatusCode.OK:
            assert pb.ModelInferResponse.FromString(call.result()).outputs, told
        else:
            assert call.code() in ALLOWED, told
            assert call.details(), told
