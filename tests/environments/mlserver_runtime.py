"""Our exported graph in MLServer, by ONNX Runtime: what a project that has MLServer would write. MLServer runs it."""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class FashionMNIST(MLModel):
    """The model."""

    async def load(self) -> bool:
        """Load the graph."""
        self._session = onnxruntime.InferenceSession(os.environ["ONNX_MODEL"], providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute."""
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8)
        (probabilities,) = self._session.run(["probabilities"], {"images": images})
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])
