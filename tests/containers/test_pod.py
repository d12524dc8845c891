"""A pod of deploy/kubernetes/, as far as Docker can run it: its environment, its rights, its probes and its end."""

import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_mnist.model_store import HEALTH_IMAGE, read_health_image
from fashion_mnist.settings import Settings
from gateway.http import keys
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine, cannot_run
from tests.support.command import wait_until

ROOT = Path(__file__).resolve().parents[2]
PATH = "/predictions/fashion_mnist"
CLIENTS = 4
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Pod:
    """A container that was started as a pod's specification says."""

    engine: Engine
    name: str
    address: str
    key: str
    spec: dict[str, Any]
    settings: Settings

    def state(self) -> dict[str, Any]:
        """What the engine knows of it."""
        found = self.engine.inspect(self.name)["State"]
        assert isinstance(found, dict)
        return found

    def probe(self, kind: str) -> int:
        """The status that a probe gets; 0 where nobody takes the connection."""
        (container,) = self.spec["containers"]
        connection = http.client.HTTPConnection(self.address, Settings().port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", container[kind]["httpGet"]["path"])
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


@pytest.fixture(params=["embedded", "cpu"])
def pod(request: pytest.FixtureRequest, engine: Engine, image: BuildImage, tmp_path: Path) -> Iterator[Pod]:
    """An overlay's, started."""
    if shutil.which("kubectl") is None:
        cannot_run("kubectl is not installed: apt-get install kubernetes-client")
    command: list[str | Path] = ["kubectl", "kustomize", ROOT / "deploy" / "kubernetes" / "overlays" / request.param]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    objects = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    spec, environment = objects["Deployment"]["spec"]["template"]["spec"], objects["ConfigMap"]["data"]
    (container,) = spec["containers"]
    user, rights = spec["securityContext"], container["securityContext"]
    settings = Settings.from_environment(environment)

    file = tmp_path / Path(settings.key_file).name
    text, key = keys.create("pod", [keys.PREDICT])
    with keys.editing(file) as known:
        known.append(key)
    # As the kubelet lays a Secret out: root's, read by the group that the pod has.
    (secret,) = [each["secret"] for each in spec["volumes"] if "secret" in each]
    os.chown(file, 0, user["fsGroup"])
    file.chmod(secret["defaultMode"])
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "keys"]
    tmp_path.chmod(0o755)

    options = [f"--env={name}={value}" for name, value in environment.items()]
    options += [f"--user={user['runAsUser']}:{user['runAsGroup']}", f"--group-add={user['fsGroup']}"]
    options += [f"--cap-drop={capability}" for capability in rights["capabilities"]["drop"]]
    assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False)
    options += ["--read-only", "--security-opt=no-new-privileges", "--no-healthcheck"]
    options += ["--tmpfs=/tmp:exec,mode=1777,size=256m"]
    options += [f"--memory={container['resources']['limits']['memory'].removesuffix('i')}"]
    options += [f"--volume={tmp_path}:{mount['mountPath']}:ro"]
    name = engine.docker("run", "--detach", *options, image(container["image"].partition(":")[2]))
    try:
        # Docker's own proxy would take every connection to a published port, whatever becomes of it.
        address = str(engine.inspect(name)["NetworkSettings"]["IPAddress"])
        yield Pod(engine, name, address, text, spec, settings)
    finally:
        engine.docker("rm", "--force", name)


@contextmanager
def arrivals(pod: Pod, image: bytes) -> Iterator[Counter[str]]:
    """Clients that connect for each request, as new ones do, until the block ends; how many had which answer."""
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.02):
            connection = http.client.HTTPConnection(pod.address, Settings().port, timeout=TIMEOUT_S)
            try:
                connection.request("POST", PATH, image, {"authorization": f"Bearer {pod.key}"})
                response = connection.getresponse()
                content = response.read()
                right = response.status == 200 and json.loads(content)["predictions"][0]["label"] == HEALTH_IMAGE[1]
                outcomes["right" if right else f"{response.status} {content[:200]!r}"] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[repr(error)] += 1
            finally:
                connection.close()

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S)


def test_pod_that_is_to_end_takes_connections_while_the_cluster_learns_of_it(pod: Pod, model_store: Path) -> None:
    wait_until(lambda: pod.probe("startupProbe") == 200, "the start", 60)
    wait_until(lambda: pod.probe("readinessProbe") == 200, "readiness", 10)
    grace_s = pod.spec["terminationGracePeriodSeconds"]
    with arrivals(pod, read_health_image(model_store)) as outcomes:
        wait_until(lambda: outcomes["right"] >= 50, "answers")
        began = time.monotonic()
        pod.engine.docker("kill", "--signal", "TERM", pod.name)
        wait_until(lambda: pod.probe("readinessProbe") == 503, "word of the end", pod.settings.drain_s)
        assert pod.probe("livenessProbe") == 200
        so_far = outcomes["right"]
        wait_until(lambda: time.monotonic() > began + pod.settings.drain_s - 1, "the drain", pod.settings.drain_s)
        assert outcomes["right"] > so_far
    assert outcomes.keys() == {"right"}, outcomes
    # What still runs after that is killed.
    wait_until(lambda: not pod.state()["Running"], "the end", grace_s - (time.monotonic() - began))
    assert pod.state()["ExitCode"] == 0
