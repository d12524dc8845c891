"""KServe's Python server, as its documentation has it, and tuned: `python kserve_app.py --http_port PORT`."""

import base64
import logging

import uvicorn
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from released import TUNED, answer, open_session, png_pixels


class Documented(Model):
    """After its page of custom predictors: an image as base64 in protocol v1's JSON."""

    def load(self) -> bool:
        self._session = open_session()
        self.ready = True
        return self.ready

    def predict(self, payload, headers=None, response_headers=None):
        content = base64.b64decode(payload["instances"][0]["image"]["b64"])
        probabilities = self._session.run(None, {"images": png_pixels(content)})[0][0]
        return {"predictions": answer(probabilities)["predictions"]}


class Tuned(Documented):
    """Binary tensors in and out, of the Open Inference Protocol.

    By one worker: more are given the model by pickle, and a session of ONNX Runtime cannot be pickled.
    """

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        pixels = payload.inputs[0].as_numpy()
        probabilities = self._session.run(None, {"images": pixels})[0]
        output = InferOutput("probabilities", [1, 10], "FP32", probabilities)
        return InferResponse(payload.id, self.name, [output], requested_outputs=payload.request_outputs)


class _Loopback(uvicorn.Config):
    """The server listens on every address and has no setting for it."""

    def __init__(self, app, host="127.0.0.1", **options):
        super().__init__(app, "127.0.0.1", access_log=not TUNED, **options)


if __name__ == "__main__":
    uvicorn.Config = _Loopback
    model = (Tuned if TUNED else Documented)("fashion_mnist")
    model.load()
    server = ModelServer()
    if TUNED:
        # A line for each request, which no option turns off.
        logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.start([model])
