"""A server of the Open Inference Protocol behind the gateway: Triton, KServe, OpenVINO Model Server, MLServer.

gRPC is the form of the protocol in which all of them accept tensors as bytes.
"""

from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import Unavailable
from fashion_mnist.predictions import Probabilities
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST, Task
from gateway.protocols import inference_pb2 as pb

WORTH_A_BATCH: Final = 32
"""Queued images that justify a second batch in flight; see `gateway.models.engines.torchserve`."""

SLOTS: Final = 2
"""Batches in flight: one that is being computed, and one on its way."""

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
INPUT: Final = "images"
OUTPUT: Final = "probabilities"

_TOO_MANY: Final = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
"""Servers' answers to a batch that is too large."""

_SUM_TOLERANCE: Final = 0.01
"""How far from 1 the sum of an image's probabilities may be: half-precision floats stay below."""

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # Reconnect to a restarted server within the second that clients are told to wait (Retry-After).
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class OipEngine:
    """Another server that runs our exported graph. See `gateway.models.engines.Backend`."""

    def __init__(self, settings: Settings, task: Task = FASHION_MNIST) -> None:
        """Does not connect yet."""
        self._task = task
        self.max_batch = 256
        """Reduced when the server refuses a batch as too large."""
        self._address = settings.oip_address
        self._model, self._version = settings.oip_model or task.name, settings.oip_version
        self._timeout_s = settings.engine_timeout_s
        self._channel = grpc.aio.insecure_channel(settings.oip_address, options=_OPTIONS)
        self._infer = self._channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )

    def wants(self, in_flight: int, waiting: int) -> bool:
        return in_flight == 0 or (in_flight < SLOTS and waiting >= WORTH_A_BATCH)

    async def predict(self, images: Pixels) -> Probabilities:
        try:
            return await self._predict(images)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TOO_MANY or len(images) == 1:
                reason = f"{error.code().name}, {(error.details() or '')[:200]!r}"
                raise Unavailable(f"the engine at {self._address} answered {reason}: retry") from None
        # Servers have limits of their own (Triton's max_batch_size), and no common call that returns them.
        half = len(images) // 2
        found = np.concatenate([await self.predict(images[:half]), await self.predict(images[half:])])
        self.max_batch = min(self.max_batch, len(images) - half)
        return found

    async def _predict(self, images: Pixels) -> Probabilities:
        request = pb.ModelInferRequest(
            model_name=self._model,
            model_version=self._version,
            inputs=[{"name": INPUT, "datatype": "UINT8", "shape": [len(images), *self._task.geometry]}],
            outputs=[{"name": OUTPUT}],
            raw_input_contents=[images.tobytes()],
        )
        response = await self._infer(request, timeout=self._timeout_s)
        shape = [len(images), len(self._task.classes)]
        found = _probabilities(response, shape)
        if found is None:
            raise Unavailable(
                f"the engine at {self._address} returned no {OUTPUT}, FP32 {shape}: check "
                "that it serves our exported graph"
            )
        if not ((found >= 0).all() and (abs(found.sum(axis=1) - 1) < _SUM_TOLERANCE).all()):
            raise Unavailable(
                f"the engine at {self._address} returned invalid {OUTPUT}, below 0 or with a sum other than 1: check "
                "that it serves our exported graph"
            )
        return found

    async def close(self) -> None:
        await self._channel.close()


def _probabilities(response: Any, shape: list[int]) -> Probabilities | None:
    """The output, raw or typed; None if it is missing or is not FP32 of this shape."""
    for place, output in enumerate(response.outputs):
        if output.name == OUTPUT and output.datatype == "FP32" and list(output.shape) == shape:
            raw = response.raw_output_contents
            if len(raw) > place:
                found = np.frombuffer(raw[place], "<f4") if len(raw[place]) % 4 == 0 else np.empty(0, np.float32)
            else:
                found = np.array(output.contents.fp32_contents, np.float32)
            return found.reshape(shape) if found.size == np.prod(shape) else None
    return None
