"""`fashion-mnist serve`: ready when it says so, gone when it is told to, and clear about what stops it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import CARD, HEALTH_IMAGE
from tests.support.command import COMMAND, ServeCommand, gone, serve_command, wait_until
from tests.support.load import load


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    with serve_command(tmp_path_factory.mktemp("serve")) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


def answers(url: str, image: bytes) -> bool:
    try:
        response = httpx.post(url, content=image, timeout=2)
        return bool(response.status_code == 200 and response.json()["predictions"][0]["label"] == HEALTH_IMAGE[1])
    except httpx.HTTPError:
        return False


@pytest.fixture
def health_image(model_store: Path) -> bytes:
    return (model_store / HEALTH_IMAGE[0]).read_bytes()


@pytest.fixture(scope="module")
def labels(dataset: Dataset, model_store: Path) -> list[str]:
    """What the released model says of the first test images."""
    return [
        CLASSES[index] for index in open_engine(model_store, "onnx", "cpu").predict(dataset.test.images[:500]).argmax(1)
    ]


def test_the_curl_line_can_be_pasted(server: ServeCommand) -> None:
    line = next(line for line in server.said().splitlines() if line.strip().startswith("curl "))
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=10, check=True)
    assert f'"label": "{HEALTH_IMAGE[1]}"' in done.stdout


def test_status_tells_by_a_real_prediction(server: ServeCommand) -> None:
    port = str(urlsplit(server.url).port)
    done = subprocess.run([COMMAND, "status", "--port", port], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert "ready" in done.stdout
    assert str(server.jvm().pid) in done.stdout


def test_asking_how_it_is_counts_as_no_request(server: ServeCommand) -> None:
    """A container's health check asks all the time: its image would be most of what drift is measured of."""
    admin = f"http://127.0.0.1:{server.state().admin_port}/metrics"

    def counted(code: str) -> float:
        line = f'serving_requests_total{{code="{code}"}} '
        (found,) = (each for each in httpx.get(admin, timeout=10).text.splitlines() if each.startswith(line))
        return float(found.removeprefix(line))

    def all_that_were_answered() -> float:
        """Counted are all at once, with a bad one that comes after them."""
        bad = counted("bad_length")
        assert httpx.post(server.url, content=b"1", timeout=10).status_code == 400
        wait_until(lambda: counted("bad_length") == bad + 1, "the bad one, counted", 10)
        return counted("ok")

    before = all_that_were_answered()
    subprocess.run([COMMAND, "status", "--port", str(urlsplit(server.url).port)], timeout=30, check=True)
    assert all_that_were_answered() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["torchserve", "embedded"])
def test_a_signal_ends_everything(tmp_path: Path, engine: str, number: signal.Signals) -> None:
    with serve_command(tmp_path, "--engine", engine) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        family, address = command.family(), urlsplit(command.url)
        # A client that has promised a body and sends nothing: it is not waited for forever.
        with socket.create_connection((address.hostname, address.port), timeout=10) as slow:
            slow.sendall(b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n")
            assert command.end(number) == 0
        assert gone(family)


def test_an_open_request_is_answered(tmp_path: Path) -> None:
    with serve_command(tmp_path) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        with ThreadPoolExecutor(1) as pool:
            # 10,000 images take the worker a fraction of a second: the signal comes while it computes.
            sent = pool.submit(httpx.post, command.url, content=bytes(784 * 10_000), timeout=20)
            wait_until(lambda: command.worker().cpu_percent() > 50 or sent.done(), "work", 5)
            command.process.send_signal(signal.SIGTERM)
            assert sent.result(timeout=10).status_code == 200
        assert command.process.wait(15) == 0


@pytest.mark.parametrize("engine", ["torchserve", "embedded"])
def test_no_request_is_lost_when_it_drains_under_load(
    tmp_path: Path, engine: str, dataset: Dataset, labels: list[str]
) -> None:
    """Every request that was sent is answered; the rest finds a closed port."""
    # Time to see each step of it, also on a machine that has much else to do.
    slowly = {"FASHION_MNIST_DRAIN_S": "4", "FASHION_MNIST_SHUTDOWN_TIMEOUT_S": "10"}
    with serve_command(tmp_path, "--engine", engine, **slowly) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        ready = command.url.replace("/predictions/fashion_mnist", "/health/ready")
        with load(command.url, dataset.test.images[:500], labels, clients=16) as found:
            found.wait_for(200)
            before = found.outcomes["right"]
            command.process.send_signal(signal.SIGTERM)
            wait_until(lambda: httpx.get(ready, timeout=5).status_code == 503, "not ready", 5)
            last = httpx.post(command.url, content=bytes(784), timeout=5)
            assert (last.status_code, last.headers["connection"]) == (200, "close")
            assert command.process.wait(20) == 0
            wait_until(lambda: found.outcomes["refused"] > 0, "a closed port", 10)
        assert set(found.outcomes) == {"right", "refused"}
        assert found.outcomes["right"] > before


class TestDeaths:
    """kill -9 of each process under load: errors for what was in flight, no wrong answer, whole again by itself."""

    RECOVERY_S = 10.0

    @pytest.mark.parametrize("victim", ["worker", "jvm", "gateway"])
    def test_of_one_process(
        self, server: ServeCommand, health_image: bytes, dataset: Dataset, labels: list[str], victim: str
    ) -> None:
        # Whole again after the death before.
        wait_until(lambda: answers(server.url, health_image), "an answer")
        process: psutil.Process = getattr(server, victim)()
        with load(server.url, dataset.test.images[:500], labels) as found:
            found.wait_for(100)
            process.kill()
            wait_until(lambda: gone([process]), "its death")
            found.wait_for(100, self.RECOVERY_S)
        # A gateway takes the requests that it holds with it. Nobody loses one to the death of an engine.
        allowed = {"right", "lost"} if victim == "gateway" else {"right", "503"}
        assert set(found.outcomes) <= allowed
        assert found.outcomes["lost"] <= 8
        assert not found.retry_after_missing

    def test_a_gateway_is_replaced_with_the_embedded_engine_too(
        self, embedded: ServeCommand, dataset: Dataset, labels: list[str]
    ) -> None:
        process = embedded.gateway()
        with load(embedded.url, dataset.test.images[:500], labels) as found:
            found.wait_for(100)
            process.kill()
            found.wait_for(100, self.RECOVERY_S)
        assert set(found.outcomes) <= {"right", "lost"}
        assert found.outcomes["lost"] <= 8


def test_an_engine_that_hangs_is_a_503_in_time_and_comes_back(tmp_path: Path, health_image: bytes) -> None:
    with serve_command(tmp_path, FASHION_MNIST_ENGINE_TIMEOUT_S="1") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        ready = command.url.replace("/predictions/fashion_mnist", "/health/ready")
        jvm = command.jvm()
        jvm.suspend()
        try:
            response = httpx.post(command.url, content=health_image, timeout=10)
            assert response.status_code == 503
            assert response.headers["retry-after"]
            assert response.json()["error"]["code"] == "unavailable"
            assert httpx.get(ready, timeout=10).json()["status"] == "not ready"
            port = str(urlsplit(command.url).port)
            done = subprocess.run([COMMAND, "status", "--port", port], capture_output=True, text=True, timeout=30)
            assert done.returncode == 1
            assert "not ready: " in done.stdout
            assert httpx.get(ready.replace("ready", "live"), timeout=10).status_code == 200
            # From now on nobody waits for it.
            assert httpx.post(command.url, content=health_image, timeout=10).status_code == 503
        finally:
            jvm.resume()
        wait_until(lambda: answers(command.url, health_image), "an answer", 10)


def test_past_its_queue_it_refuses_at_once_and_goes_on(tmp_path: Path, dataset: Dataset, health_image: bytes) -> None:
    with serve_command(tmp_path, FASHION_MNIST_MAX_QUEUED_IMAGES="1000") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        body = dataset.test.images[:2000].tobytes()
        with ThreadPoolExecutor(24) as pool:
            found = list(pool.map(lambda _: httpx.post(command.url, content=body, timeout=20), range(48)))
        statuses = {response.status_code for response in found}
        assert statuses == {200, 429}
        assert all(response.headers["retry-after"] for response in found if response.status_code == 429)
        assert answers(command.url, health_image)


def test_two_gateways_share_the_port(tmp_path: Path, dataset: Dataset, labels: list[str]) -> None:
    with serve_command(tmp_path, "--engine", "embedded", "--gateways", "2") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        with load(command.url, dataset.test.images[:500], labels, clients=16) as found:
            found.wait_for(500)
        assert set(found.outcomes) == {"right"}
        assert command.end() == 0


def test_kill_9_of_serve_takes_everything_with_it(tmp_path: Path) -> None:
    with serve_command(tmp_path) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        family = command.family()
        command.process.kill()
        command.process.wait(10)
        wait_until(lambda: gone(family), "the end of all processes", 15)


class TestWhatKeepsItFromStarting:
    """A clear error within seconds, exit status 1, and nothing left running."""

    @staticmethod
    def fails(folder: Path, *arguments: str, deadline_s: float = 30.0, **environment: str) -> str:
        with serve_command(folder, *arguments, **environment) as command:
            assert command.process.wait(deadline_s) == 1, command.said()
            said = command.said()
        assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
        assert "Traceback" not in said
        return said

    def test_a_taken_port(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            said = self.fails(tmp_path, "--port", port)
        assert port in said
        assert "FASHION_MNIST_PORT" in said

    def test_a_java_that_fails(self, tmp_path: Path) -> None:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 3\n")
        java.chmod(0o755)
        said = self.fails(tmp_path, JAVA_HOME=str(tmp_path))
        assert "no such luck" in said
        assert "JAVA_HOME" in said

    def test_no_java(self, tmp_path: Path) -> None:
        assert "JAVA_HOME" in self.fails(tmp_path, JAVA_HOME=str(tmp_path / "nowhere"))

    def test_an_old_java(self, tmp_path: Path) -> None:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
        java.chmod(0o755)
        assert "Java 17" in self.fails(tmp_path, JAVA_HOME=str(tmp_path))

    @pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
    def test_a_worker_that_crash_loops(self, tmp_path: Path) -> None:
        said = self.fails(tmp_path, "--device", "cuda")
        assert "again and again" in said
        assert "NVIDIA driver" in said

    @pytest.mark.parametrize(
        ("engine", "file"),
        [("torchserve", "model.onnx"), ("embedded", "model.onnx"), ("embedded", CARD), ("oip", CARD)],
    )
    def test_an_altered_model(self, tmp_path: Path, model_store: Path, engine: str, file: str) -> None:
        altered = tmp_path / "store"
        subprocess.run(["cp", "-r", str(model_store), str(altered)], check=True, timeout=10)
        with (altered / file).open("ab") as opened:
            opened.write(b" ")
        said = self.fails(tmp_path, "--engine", engine, FASHION_MNIST_MODEL_STORE=str(altered))
        assert f"{file} does not match its checksum" in said

    def test_a_long_name_for_temporary_files(self, tmp_path: Path) -> None:
        folder = tmp_path / ("long" * 25)
        folder.mkdir()
        assert "TMPDIR to a shorter path" in self.fails(tmp_path, "--engine", "embedded", TMPDIR=str(folder))

    @pytest.mark.parametrize("size", ["200k", "700k"])
    def test_a_full_disk(self, tmp_path: Path, size: str) -> None:
        # Not below tmp_path, whose name may be too long for a Unix socket.
        with tempfile.TemporaryDirectory(prefix="disk.") as disk:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
            if os.getuid() != 0 or subprocess.run(mount, capture_output=True, timeout=10, check=False).returncode != 0:
                pytest.skip("mounting a small disk needs root")
            try:
                said = self.fails(tmp_path, TMPDIR=disk)
            finally:
                subprocess.run(["umount", disk], check=True, timeout=10)
        assert "No space left on device" in said

    def test_an_unknown_setting(self, tmp_path: Path) -> None:
        with serve_command(tmp_path, FASHION_MNIST_PROT="1") as command:
            assert command.process.wait(30) == 2
            assert "FASHION_MNIST_PROT" in command.said()


def test_help_comes_without_heavy_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import cli"], capture_output=True, text=True, timeout=30, check=True
    )
    assert " torch\n" not in done.stderr
    assert " onnxruntime\n" not in done.stderr
