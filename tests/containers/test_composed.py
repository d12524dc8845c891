"""docker-compose.yml, up for real: right labels, health, limits, keys, load, and an end that loses no request."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset
from loadtest import scenario
from loadtest.requests import prepare
from serving.config import free_ports
from tests.containers.building import ROOT
from tests.containers.compose import FREE_PORTS, Project, project
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine
from tests.support.command import wait_until
from tests.support.load import sending

SERVICES = {"server": "torchserve-cpu", "embedded": "embedded"}
PATH = "/predictions/fashion_mnist"
CLIENTS = 16


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """A service that predicts; each is up while its tests run."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def running(service: str, image: BuildImage, engine: Engine) -> Iterator[Project]:
    """The project with that service healthy; what it said and was found to be meanwhile is checked."""
    image(SERVICES[service])
    with project(engine) as found:
        found.up(service, profile=service if service != "server" else None)
        assert engine.health(found.container(service)) == "starting"
        found.wait_until_healthy(service)
        assert "ready: " in found.logs(service), "healthy before a real image got its right label"
        yield found


@pytest.fixture
def url(service: str, running: Project) -> str:
    """Where it predicts."""
    return f"http://{running.address(service, 8080)}{PATH}"


def test_real_images_get_their_right_labels(url: str, dataset: Dataset, labels: list[str]) -> None:
    answer = httpx.post(url, content=dataset.test.images[:500].tobytes(), timeout=20).json()
    assert [prediction["label"] for prediction in answer["predictions"]] == labels


def test_every_kind_of_request_gets_its_right_labels(url: str) -> None:
    """Above all every kind of file: Pillow lacks here what slim.py takes from it."""
    kinds = [kind for kind, _ in scenario.read("smoke").mix if not kind.grpc]
    with httpx.Client(base_url=url.removesuffix(PATH), timeout=20) as client:
        for request in prepare(kinds, requests=20):
            answer = client.post(request.sent.path, content=request.sent.body, headers=request.sent.headers)
            assert answer.status_code == 200, (request.kind.name, answer.text)
            assert request.kind.read(answer.content) == request.labels, request.kind.name


def test_nothing_in_it_can_be_changed(service: str, running: Project) -> None:
    script = "id -u; touch /app/x; grep -E 'CapEff|NoNewPrivs' /proc/1/status"
    done = running.engine.run(["docker", "exec", running.container(service), "sh", "-c", script])
    assert done.stdout.split() == ["10001", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    assert "Read-only file system" in done.stderr


def test_only_the_gateway_listens_to_others(service: str, running: Project) -> None:
    listening = running.engine.docker("exec", running.container(service), "cat", "/proc/net/tcp", "/proc/net/tcp6")
    ports = set()
    for line in listening.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A":  # LISTEN
            address, _, port = fields[1].partition(":")
            if not address.endswith("7F000001") or len(address) != 8:
                ports.add(int(port, 16))
    # Docker's own name server is on 127.0.0.11.
    published = running.engine.inspect(running.container(service))["NetworkSettings"]["Ports"]
    assert {port for port in ports if port < 10_000} == {8080, 8085, 8086}
    assert {mapping["HostIp"] for mappings in published.values() for mapping in mappings} == {"127.0.0.1"}


def test_a_stop_under_load_loses_no_request(
    service: str, running: Project, url: str, dataset: Dataset, labels: list[str]
) -> None:
    """Each client sends image after image on its connection, until an answer tells it to close that."""
    found = Outcomes()

    def send(start: int) -> None:
        place = start
        with httpx.Client(timeout=20) as client:
            while not found.stopped:
                found.count("sent")
                response = client.post(url, content=dataset.test.images[place].tobytes())
                right = response.status_code == 200 and response.json()["predictions"][0]["label"] == labels[place]
                found.count("right" if right else f"wrong: {response.status_code} {response.text[:100]}")
                if response.headers.get("connection") == "close":
                    found.count("told to close")
                    return
                place = (place + CLIENTS) % len(labels)

    container = running.container(service)
    with sending(found, send, CLIENTS):
        wait_until(lambda: found.counts["right"] > 500, "load")
        before = found.counts["right"]
        running.engine.docker("stop", container)
        wait_until(lambda: found.counts["told to close"] == CLIENTS, "every client's last answer", 20)
    assert found.counts["sent"] == found.counts["right"] > before
    assert set(found.counts) == {"sent", "right", "told to close"}
    state = running.engine.inspect(container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


class Outcomes:
    """What clients in threads count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.stopped = False
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        """One more."""
        with self._lock:
            self.counts[name] += 1


def test_with_a_file_of_keys_nobody_gets_in_without_one(
    image: BuildImage, engine: Engine, tmp_path: Path, dataset: Dataset, labels: list[str]
) -> None:
    image("embedded")
    making = ["docker", "run", "--rm", "--user=0", "--cap-drop=ALL", f"--volume={tmp_path}:/keys"]
    making += ["fashion-mnist:embedded", "fashion-mnist", "keys", "create", "--name=test", "--file=/keys/keys.json"]
    made = engine.run(making)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    with project(engine, ROOT / "compose.auth.yml", KEYS=str(tmp_path / "keys.json")) as found:
        found.up("embedded", profile="embedded")
        found.wait_until_healthy("embedded")
        url = f"http://{found.address('embedded', 8080)}{PATH}"
        body = np.ascontiguousarray(dataset.test.images[:1]).tobytes()
        assert httpx.post(url, content=body, timeout=10).status_code == 401
        answer = httpx.post(url, content=body, headers={"Authorization": f"Bearer {key}"}, timeout=10)
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["label"] == labels[0]
        assert key not in found.logs("embedded")


def test_the_pages_commands_run_as_they_stand(image: BuildImage, engine: Engine) -> None:
    """On another port, and under another name, than a person's: up, a prediction, a load test, and down."""
    image("torchserve-cpu")
    image("loadtest")
    page = (ROOT / "docs" / "how-to" / "containers.md").read_text()
    (commands,) = re.findall(r"<!-- run by tests/containers/test_composed.py -->\n```sh\n(.*?)^```", page, re.M | re.S)
    (shown,) = re.findall(r"It ended with\n\n```text\n(.*?)^```", page, re.M | re.S)
    (port,) = free_ports(1)
    with project(engine, FASHION_MNIST_PORT=str(port), LOAD_WORKERS="2") as found:
        variables = {**FREE_PORTS, **found.variables, "COMPOSE_PROJECT_NAME": found.name}
        script = commands.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("docker compose", found.program)
        done = engine.run(["bash", "-e", "-c", script], timeout_s=240, variables=variables, folder=ROOT)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert '{"predictions": [{"label": "Bag"' in done.stdout
        said = {line.partition("| ")[2] for line in re.sub(r"\x1b\[\d*m", "", done.stdout).splitlines()}
        measured, *verdict = shown.splitlines()
        assert any(line.startswith(measured.partition(": ")[0]) for line in said)
        assert set(verdict) <= said
