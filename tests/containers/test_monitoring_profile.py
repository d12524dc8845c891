"""The profile `monitoring`: our Prometheus finds the server by its name and has an answer for every panel.

Grafana, the collector and Jaeger are other people's images, and not run. tests/deploy/test_panels.py compares each
answer with what happened; here is what only containers show.
"""

import math
from collections import Counter
from collections.abc import Iterator
from urllib.request import getproxies

import httpx
import pytest

from fashion_mnist.data.splits import Dataset
from fashion_mnist.model_store import HEALTH_IMAGE
from loadtest.kinds import find_kind
from tests.containers.building import ROOT
from tests.containers.compose import Project, project
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine
from tests.support.command import wait_until
from tests.support.prometheus import Prometheus, panels

BUILD_S = 600.0
TIMEOUT_S = 20.0
SCRAPES_S = 60.0
"""For four of them, and for the name to be looked up."""

KIND = "raw x 8"
REQUESTS = 130
"""Together more than the thousand images that drift is measured of."""

WINDOW_S = 300


@pytest.fixture(scope="module")
def watched(engine: Engine, image: BuildImage) -> Iterator[Project]:
    """The server and the Prometheus beside it, both healthy."""
    image("torchserve-cpu")
    context = ROOT / "deploy" / "monitoring"
    target = ("--target", "prometheus", "--tag", "fashion-mnist:prometheus")
    proxies = [f"--build-arg={kind}_proxy={address}" for kind, address in getproxies().items()]
    engine.docker("build", "--quiet", "--network", "host", *target, *proxies, context, timeout_s=BUILD_S)
    with project(engine, PROMETHEUS_PORT="0") as found:
        found.up("server", "prometheus", profile="monitoring")
        found.wait_until_healthy("server")
        found.wait_until_healthy("prometheus")
        yield found


def test_prometheus_has_an_answer_for_every_panel(watched: Project, dataset: Dataset, labels: list[str]) -> None:
    prometheus = Prometheus(f"http://{watched.address('prometheus', 9090)}")

    def predicted() -> Counter[str]:
        # But for the class that the server itself asks for, when it starts.
        now = prometheus.ask(f'serving_predictions_total{{label!="{HEALTH_IMAGE[1]}"}}')
        return Counter({found["label"]: int(value) for found, value in now})

    found = 'up{job="fashion-mnist",service="server"} == 1'
    wait_until(lambda: prometheus.ask(found), "the server, by its name", SCRAPES_S)
    before, kind, sent = predicted(), find_kind(KIND), 0
    expected: Counter[str] = Counter()
    with httpx.Client(base_url=f"http://{watched.address('server', 8080)}", timeout=TIMEOUT_S) as client:
        for _ in range(REQUESTS):
            places = [place % len(labels) for place in range(sent, sent + kind.images)]
            request = kind.write(dataset.test.images[places])
            answer = client.post(request.path, content=request.body, headers=dict(request.headers))
            assert kind.read(answer.content) == [labels[place] for place in places]
            expected.update(labels[place] for place in places)
            sent += kind.images
        assert client.post(request.path, content=b"1").status_code == 400
    del expected[HEALTH_IMAGE[1]]
    wait_until(lambda: predicted() - before == expected, "every image, by its class", SCRAPES_S)
    wait_until(lambda: prometheus.ask("job:serving_slow:ratio_rate5m >= 0"), "the rules' look at it", SCRAPES_S)
    for panel in panels():
        shown = prometheus.panel(panel, WINDOW_S)
        assert bool(shown) == (panel.row != "GPU"), panel.key
        assert all(map(math.isfinite, shown.values())), (panel.key, shown)


def test_prometheus_can_change_nothing_but_its_data_and_ends_when_told(watched: Project) -> None:
    container = watched.container("prometheus")
    script = "id -u; touch /etc/prometheus/x /prometheus/x"
    done = watched.engine.run(["docker", "exec", container, "sh", "-c", script])
    assert done.stdout.split() == ["10001"]
    assert done.stderr.count("Read-only file system") == 1
    watched.engine.docker("stop", container)
    assert watched.engine.inspect(container)["State"]["ExitCode"] == 0
