"""LitServe, as its documentation has it, and tuned: `python litserve_app.py PORT`."""

import base64
import sys
from typing import Annotated

import litserve
import numpy as np
import orjson
from fastapi import Body, Response
from released import TUNED, answer, open_session, png_pixels


class Documented(litserve.LitAPI):
    """JSON in, as in all of its examples, with the image as base64."""

    def setup(self, device):
        self._session = open_session()

    def decode_request(self, request):
        return png_pixels(base64.b64decode(request["image"]))

    def predict(self, x):
        return self._session.run(None, {"images": x})[0][0]

    def encode_response(self, output):
        return answer(output)


class Tuned(litserve.LitAPI):
    """Raw bytes in batches: each request crosses two queues between processes, and those of a batch cross together."""

    def setup(self, device):
        self._session = open_session()

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        return np.frombuffer(request, np.uint8).reshape(1, 28, 28)

    def predict(self, x):
        return self._session.run(None, {"images": x})[0]

    def encode_response(self, output) -> Response:
        # A ready answer passes FastAPI by; a dict would go through its encoder, in the process that is the bottleneck.
        return Response(orjson.dumps(answer(output)), media_type="application/json")


if __name__ == "__main__":
    options = {"host": "127.0.0.1", "port": int(sys.argv[1]), "generate_client_file": False}
    if TUNED:
        api = Tuned(max_batch_size=64, batch_timeout=0.0005)
        server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
        # What speaks HTTP is the bottleneck: two of it, one for each core.
        server.run(**options, num_api_servers=2, log_level="error", access_log=False)
    else:
        litserve.LitServer(Documented(), accelerator="cpu").run(**options)
