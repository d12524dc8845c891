"""The released graph in MLServer by a custom runtime, as its documentation has it; there is none for ONNX."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from released import TUNED, open_session, raw_pixels


class FashionMNIST(MLModel):
    """The model."""

    async def load(self) -> bool:
        self._session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if TUNED:
            # 784 numbers in JSON are slow to read and to check, base64 is not.
            pixels = raw_pixels(Base64Codec.decode_input(payload.inputs[0])[0])
        else:
            pixels = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8)
        (probabilities,) = self._session.run(["probabilities"], {"images": pixels})
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])
