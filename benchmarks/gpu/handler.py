"""The TorchServe handler with a context of our own, told of GPU 0 as TorchServe tells its workers."""

import json
from typing import Any

import numpy as np

from benchmarks.gpu import host
from benchmarks.gpu.steps import Found, Run
from fashion_mnist.engines import open_engine
from fashion_mnist.settings import Settings
from handlers.fashion_mnist_handler import FashionMNISTHandler

OCTET_STREAM = "application/octet-stream"
RUNTIMES = ("onnx", "torchscript")


class Context:
    """What the handler uses of TorchServe's `ts.context.Context`."""

    def __init__(self, run: Run, **settings: Any) -> None:
        """For GPU 0, with settings as the archive carries them."""
        chosen = Settings(device=run.device, **settings).for_handler()
        self.system_properties = {"model_dir": str(host.model_store()), "gpu_id": None if run.dry else 0}
        self.model_yaml_config = {"handler": chosen}
        self.metrics = self
        self.model_name = "fashion_mnist"
        self.statuses: dict[int, int] = {}
        self.request_headers = {"body": {"content-type": OCTET_STREAM}, "Content-Type": OCTET_STREAM}

    def get_all_request_header(self, index: int) -> dict[str, Any]:
        """The same of each request: raw pixels."""
        return self.request_headers

    def set_response_content_type(self, index: int, value: str) -> None:
        """Not looked at."""

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        """Kept in `statuses`."""
        self.statuses[index] = code

    def add_metric_to_cache(self, *_: Any) -> "Context":
        """A metric, which is this."""
        return self

    def add_or_update(self, *_: Any) -> None:
        """Not looked at."""


def handler(run: Run) -> Found:
    """Batches of requests, some bad ones among them, by each runtime."""
    test = host.images(run).images[:500]
    expected = open_engine(host.model_store(), "onnx", "cpu").predict(test).argmax(axis=1)
    found: Found = {}
    for runtime in RUNTIMES:
        context = Context(run, runtime=runtime)
        serving = FashionMNISTHandler()
        serving.initialize(context)
        labels = []
        for start in range(0, len(test), 50):
            bodies = [image.tobytes() for image in test[start : start + 50]]
            answers = serving.handle([{"body": body} for body in [*bodies, b"no image"]], context)
            assert context.statuses == {len(bodies): 400}, context.statuses
            labels += [json.loads(answer)["predictions"][0]["index"] for answer in answers[:-1]]
        assert np.array_equal(labels, expected), f"{runtime}: labels differ from the CPU's"
        found[runtime] = f"{len(labels)} images, labels as on the CPU, a bad request in each batch refused alone"
    return found
