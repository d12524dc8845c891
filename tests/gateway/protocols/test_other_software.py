"""Other people's software with ours: NVIDIA's client, Schemathesis, and MLServer behind the gateway."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import HEALTH_IMAGE
from tests.environments import LOCKS, programs
from tests.support.bodies import OCTET_STREAM
from tests.support.command import ServeCommand, serve_command, wait_until

TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def found(embedded: ServeCommand, model_store: Path) -> Any:
    """What came of all its calls."""
    python, script = programs("tritonclient") / "python", LOCKS / "tritonclient_calls.py"
    addresses = [urlsplit(embedded.url).netloc, f"127.0.0.1:{embedded.state().grpc_port}"]
    command: list[str | Path] = [python, "-P", script, *addresses, model_store / HEALTH_IMAGE[0]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestTritonclient:
    @pytest.mark.parametrize("way", ["http", "grpc"])
    def test_synchronously(self, found: Any, way: str) -> None:
        said = found[way]
        assert [said[what] for what in ("live", "ready", "model", "version", "other")] == [True] * 4 + [False]
        assert (said["server"], said["metadata"]) == ("fashion-mnist-serving", "images")
        assert said["file all"]["label"] == said["file label"]["label"] == [HEALTH_IMAGE[1]]
        assert list(said["file label"]) == ["label"]
        assert np.shape(said["pixels all"]["probabilities"]) == (2, 10)
        assert said["pixels all"]["index"] == np.argmax(said["pixels all"]["probabilities"], axis=1).tolist()
        assert said["file all"]["unknown"] == [False]
        assert said["refused"]

    @pytest.mark.parametrize("way", ["http", "grpc"])
    def test_asynchronously(self, found: Any, way: str) -> None:
        said = found[f"{way}, asynchronously"]
        assert said["live"]
        assert said["ready"]
        assert said["file"] == [[HEALTH_IMAGE[1]]] * 50
        assert said["pixels"] == [found[way]["pixels all"]["label"]] * 50


def test_the_openapi_document_is_true(embedded: ServeCommand, tmp_path: Path) -> None:
    """Schemathesis sends what the document allows and what it does not, and compares every answer with it.

    One check is left out: that whatever a schema allows is accepted. No schema can say which strings are images.
    """
    document = embedded.url.replace("/predictions/fashion_mnist", "/openapi.json")
    command: list[str | Path] = [
        programs("schemathesis") / "st",
        "run",
        document,
        "--no-color",
        "--phases",
        "coverage,fuzzing",
    ]
    command += ["--max-examples", "30", "--exclude-checks", "positive_data_acceptance"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator["MLServer"]:
    """MLServer with our exported graph, on free ports."""
    server = MLServer(tmp_path_factory.mktemp("mlserver"), model_store)
    server.start()
    try:
        wait_until(server.is_ready, "MLServer", 120)
        yield server
    finally:
        server.stop()


class MLServer:
    """The process."""

    def __init__(self, folder: Path, model_store: Path) -> None:
        self._folder = folder
        self._http, self.grpc, metrics = _free_ports(3)
        settings: dict[str, Any] = {
            "http_port": self._http,
            "grpc_port": self.grpc,
            "metrics_port": metrics,
            "parallel_workers": 0,
        }
        settings |= {"host": "127.0.0.1", "metrics_rest_server_prefix": "rest", "environments_dir": str(folder)}
        (folder / "settings.json").write_text(json.dumps(settings))
        model = {"name": "fashion_mnist", "implementation": "mlserver_runtime.FashionMNIST"}
        (folder / "model-settings.json").write_text(json.dumps(model))
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PYTHONPATH": str(LOCKS),
            "ONNX_MODEL": str(model_store / "model.onnx"),
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
        }

    def start(self) -> None:
        """Start it, again where it was stopped."""
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [programs("mlserver") / "mlserver", "start", self._folder],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(10)

    def is_ready(self) -> bool:
        """Whether it says so."""
        assert self._process.poll() is None, (self._folder / "output").read_text()[-3000:]
        try:
            url = f"http://127.0.0.1:{self._http}/v2/models/fashion_mnist/ready"
            return httpx.get(url, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def gateway(mlserver: MLServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """A gateway in front of it."""
    address = f"127.0.0.1:{mlserver.grpc}"
    folder = tmp_path_factory.mktemp("oip")
    with serve_command(folder, "--engine", "oip", FASHION_MNIST_OIP_ADDRESS=address) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


class TestMLServer:
    def test_its_answers_are_those_of_the_embedded_engine(
        self, gateway: ServeCommand, dataset: Dataset, model_store: Path
    ) -> None:
        images = dataset.test.images[:600]
        response = httpx.post(
            gateway.url, content=images.tobytes(), headers={"accept": OCTET_STREAM}, timeout=TIMEOUT_S
        )
        assert response.status_code == 200
        found = np.frombuffer(response.content, "<f4").reshape(-1, 10)
        expected = open_engine(model_store, "onnx", "cpu").predict(images)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

    def test_its_death_is_a_503_and_its_return_is_noticed(
        self, gateway: ServeCommand, mlserver: MLServer, model_store: Path
    ) -> None:
        health_image = (model_store / HEALTH_IMAGE[0]).read_bytes()

        def status() -> int:
            return httpx.post(gateway.url, content=health_image, timeout=TIMEOUT_S).status_code

        assert status() == 200
        mlserver.stop()
        response = httpx.post(gateway.url, content=health_image, timeout=TIMEOUT_S)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        assert response.headers["retry-after"]
        mlserver.start()
        wait_until(lambda: status() == 200, "an answer", 60)


def test_a_server_without_our_graph_is_no_engine(embedded: ServeCommand, tmp_path: Path) -> None:
    """A gateway speaks the protocol too; asked for a model that is not there it says so, and we are not ready."""
    address = f"127.0.0.1:{embedded.state().grpc_port}"
    settings = {"FASHION_MNIST_OIP_ADDRESS": address, "FASHION_MNIST_STARTUP_TIMEOUT_S": "3"}
    with serve_command(tmp_path, "--engine", "oip", FASHION_MNIST_OIP_MODEL="other", **settings) as command:
        assert command.process.wait(30) == 1
        assert "NOT_FOUND" in command.said()


def test_a_gateway_in_front_of_a_gateway(embedded: ServeCommand, tmp_path: Path, model_store: Path) -> None:
    address = f"127.0.0.1:{embedded.state().grpc_port}"
    with serve_command(tmp_path, "--engine", "oip", FASHION_MNIST_OIP_ADDRESS=address) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        health_image = (model_store / HEALTH_IMAGE[0]).read_bytes()
        answer = httpx.post(command.url, content=health_image, timeout=TIMEOUT_S).json()
        assert answer["predictions"][0]["label"] == HEALTH_IMAGE[1]
