"""Ray Serve, as its documentation has it, and tuned: `python ray_app.py PORT FOLDER`."""

import logging
import signal
import sys

import orjson
import ray
from ray import serve
from released import TUNED, answer, open_session, png_pixels, raw_pixels
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment
class Documented:
    """After its tutorial of image models: the body is an image's file."""

    def __init__(self):
        self._session = open_session()

    async def __call__(self, request: Request) -> dict:
        pixels = png_pixels(await request.body())
        return answer(self._session.run(None, {"images": pixels})[0][0])


# By default five requests at once; the others wait in the proxy.
@serve.deployment(max_ongoing_requests=1000, logging_config={"enable_access_log": False, "log_level": "ERROR"})
class Tuned:
    """Raw bytes, and an answer written by orjson."""

    def __init__(self):
        self._session = open_session()

    async def __call__(self, request: Request) -> Response:
        pixels = raw_pixels(await request.body())
        content = orjson.dumps(answer(self._session.run(None, {"images": pixels})[0][0]))
        return Response(content, media_type="application/json")


def main(port: int, folder: str) -> None:
    """Serve until SIGTERM. Without its dashboard, on loopback alone."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    ray.init(
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        # The store of objects is not used by requests over HTTP; by default it takes a third of the memory.
        object_store_memory=100 * 2**20,
        logging_level=logging.ERROR,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run((Tuned if TUNED else Documented).bind(), blocking=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
