"""The torchserve-gpu image on a GPU: Compose's profile `gpu`, up for real. `make test-containers-gpu`."""

import json
from pathlib import Path

import httpx
import pytest

from fashion_mnist.data.splits import Dataset
from tests.containers.compose import project
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine

pytestmark = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="this machine has no NVIDIA GPU")


def test_real_images_get_their_right_labels(
    engine: Engine, image: BuildImage, dataset: Dataset, labels: list[str]
) -> None:
    """The image computes on the GPU or does not start (FASHION_MNIST_DEVICE=cuda)."""
    if "nvidia" not in json.loads(engine.docker("info", "--format", "{{json .Runtimes}}")):
        pytest.skip("Docker has no runtime `nvidia`: install NVIDIA's container toolkit")
    image("torchserve-gpu")
    with project(engine) as found:
        found.up("gpu", profile="gpu")
        found.wait_until_healthy("gpu")
        url = f"http://{found.address('gpu', 8080)}/predictions/fashion_mnist"
        answer = httpx.post(url, content=dataset.test.images[:500].tobytes(), timeout=20).json()
        assert [prediction["label"] for prediction in answer["predictions"]] == labels
