"""deploy/stack.yml on two machines: a new version, and one that must not be, while clients send all the time."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fashion_mnist.model_store import HEALTH_IMAGE
from fashion_mnist.settings import Settings
from gateway.http import keys
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine
from tests.containers.machines import Machine, two_machines
from tests.support.command import wait_until

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
IMAGE = "fashion-mnist"
STACK = "fashion-mnist"
SERVICE = f"{STACK}_server"
NEXT, BROKEN = "swarm-next", "swarm-broken"
"""Tags of what this file builds."""
CLIENTS = 8
PAUSE_S = 0.05
ROLL_S = 120.0
ANSWER_S = 30.0


@dataclass(frozen=True)
class Swarm:
    """Both machines, joined, with the stack deployed."""

    manager: Machine
    worker: Machine
    key: str

    def docker(self, *arguments: str | Path) -> str:
        """What `docker` prints of the whole swarm."""
        return self.manager.engine.docker(*arguments)

    def deploy(self, tag: str, files: Sequence[str] = ("stack.yml",), name: str = STACK) -> None:
        """Deploy the stack with the image of a tag."""
        command: list[str | Path] = ["docker", "stack", "deploy", "--resolve-image", "never"]
        for file in files:
            command += ["--compose-file", ROOT / "deploy" / file]
        done = self.manager.engine.run([*command, name], variables={"TAG": tag})
        assert done.returncode == 0, done.stderr

    def tasks(self) -> dict[str, str]:
        """The image of each task that runs and is meant to, by the task's id."""
        wanted = ["--filter", "desired-state=running", "--format", "{{.ID}} {{.Image}} {{.CurrentState}}"]
        rows = [line.split() for line in self.docker("service", "ps", "--no-trunc", *wanted, SERVICE).splitlines()]
        return {row[0]: row[1] for row in rows if row[2] == "Running"}

    def failed(self) -> set[str]:
        """The images of tasks that failed."""
        rows = self.docker("service", "ps", "--format", "{{.Image}} {{.CurrentState}}", SERVICE).splitlines()
        return {row.split()[0] for row in rows if row.split()[1] == "Failed"}

    def addresses(self) -> set[str]:
        """Where the running tasks are reached."""
        found: set[str] = set()
        for task in self.tasks():
            attached = json.loads(self.docker("inspect", "--format", "{{json .NetworksAttachments}}", task))
            found |= {address.partition("/")[0] for each in attached for address in each["Addresses"]}
        return found

    def update(self) -> str:
        """How far the last update is, in Swarm's words; empty where there was none."""
        status = json.loads(self.docker("service", "inspect", "--format", "{{json .UpdateStatus}}", SERVICE))
        return str((status or {}).get("State", ""))

    def containers(self) -> list[int]:
        """How many containers of the service run on each machine."""
        filtered = ["--quiet", "--filter", f"label=com.docker.swarm.service.name={SERVICE}"]
        return [len(each.engine.docker("ps", *filtered).split()) for each in (self.manager, self.worker)]


@pytest.fixture(scope="module")
def images(engine: Engine, image: BuildImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file with three images: that which is served, a new version of it, and one whose model is damaged."""
    embedded, folder = image("embedded"), tmp_path_factory.mktemp("images")
    model = (ROOT / "model_store" / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
    made = []
    try:
        for tag, change in ((NEXT, "LABEL next=true"), (BROKEN, "COPY model.onnx model_store/model.onnx")):
            (folder / "Dockerfile").write_text(f"FROM {embedded}\n{change}\n")
            engine.docker("build", "--quiet", "--tag", f"{IMAGE}:{tag}", folder)
            made.append(f"{IMAGE}:{tag}")
        file = folder / "images.tar"
        engine.docker("save", "--output", file, embedded, *made, timeout_s=120)
        yield file
    finally:
        for tag in made:
            engine.docker("rmi", tag)


@pytest.fixture(scope="module")
def swarm(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """The stack on two machines, both of its tasks ready."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    text, key = keys.create("swarm", [keys.PREDICT])
    with keys.editing(file) as known:
        known.append(key)
    with two_machines() as machines:
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(lambda each: each.engine.docker("load", "--input", images, timeout_s=120), machines))
        manager, worker = (machine.engine for machine in machines)
        first, second = (machine.address for machine in machines)
        manager.docker("swarm", "init", "--advertise-addr", first, "--listen-addr", first)
        token = manager.docker("swarm", "join-token", "--quiet", "worker")
        worker.docker("swarm", "join", "--token", token, "--advertise-addr", second, "--listen-addr", second, first)
        manager.docker("secret", "create", "fashion-mnist-keys", file)
        swarm = Swarm(*machines, text)
        swarm.deploy("embedded")
        wait_until(lambda: len(swarm.tasks()) == 2, "two tasks", ROLL_S)
        yield swarm


@dataclass
class Load:
    """What came of the requests so far."""

    process: "subprocess.Popen[str]"
    right: dict[str, int] = field(default_factory=dict)
    """Right answers, by the address that gave them."""
    failures: list[str] = field(default_factory=list)

    def ask(self) -> None:
        """Have it told."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.read()

    def read(self) -> None:
        """Read what is told."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the clients have ended"
        found = json.loads(line)
        self.right, self.failures = found["right"], found["failures"]

    def wait_for(self, addresses: set[str]) -> None:
        """Wait until each address has answered more requests than by now."""
        self.ask()
        before = self.right

        def answered() -> bool:
            self.ask()
            return all(self.right.get(address, 0) > before.get(address, 0) for address in addresses)

        wait_until(answered, f"answers of {addresses}", ANSWER_S)


@contextmanager
def load(swarm: Swarm) -> Iterator[Load]:
    """Clients in a container on the manager's machine until the block ends; what came of all requests is known then."""
    task = {
        "host": "server",
        "key": swarm.key,
        "image": f"/app/model_store/{HEALTH_IMAGE[0]}",
        "label": HEALTH_IMAGE[1],
        "clients": CLIENTS,
        "pause_s": PAUSE_S,
    }
    command: list[str | Path] = ["docker", "run", "--rm", "--interactive", "--no-healthcheck"]
    command += ["--network", f"{STACK}_front", "--volume", f"{HERE / 'load_from_within.py'}:/load.py:ro"]
    command += [f"{IMAGE}:embedded", "python", "/load.py", json.dumps(task)]
    environment = swarm.manager.engine.environment()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        found = Load(process)
        try:
            yield found
            process.stdin.close()
            found.read()
        finally:
            process.stdin.close()
            try:
                process.wait(ANSWER_S)
            except subprocess.TimeoutExpired:
                process.kill()


def test_each_machine_has_a_task_and_each_answers(swarm: Swarm) -> None:
    assert swarm.containers() == [1, 1]
    with load(swarm) as clients:
        clients.wait_for(swarm.addresses())
    assert clients.failures == []


def test_a_new_version_costs_no_request(swarm: Swarm) -> None:
    before = swarm.tasks()
    with load(swarm) as clients:
        clients.wait_for(swarm.addresses())
        swarm.deploy(NEXT)
        wait_until(lambda: swarm.update() == "completed", "the update", ROLL_S)
        clients.wait_for(swarm.addresses())
    assert clients.failures == []
    assert set(swarm.tasks().values()) == {f"{IMAGE}:{NEXT}"}
    assert len(swarm.tasks()) == 2
    assert not before.keys() & swarm.tasks().keys()


def test_a_version_that_cannot_serve_is_rolled_back_and_costs_no_request(swarm: Swarm) -> None:
    before = swarm.tasks()
    with load(swarm) as clients:
        clients.wait_for(swarm.addresses())
        swarm.deploy(BROKEN)
        wait_until(lambda: swarm.update() == "rollback_completed", "the way back", ROLL_S)
        clients.wait_for(swarm.addresses())
    assert clients.failures == []
    assert f"{IMAGE}:{BROKEN}" in swarm.failed()
    assert sorted(swarm.tasks().values()) == sorted(before.values())


def test_ports_are_published_by_the_other_file(swarm: Swarm) -> None:
    # What the routing mesh does with them takes a kernel with IPVS: no task is started.
    swarm.deploy("none", ["stack.yml", "stack.ports.yml"], "ports")
    try:
        inspect = ["service", "inspect", "--format", "{{json .Spec.EndpointSpec}}", "ports_server"]
        found = json.loads(swarm.docker(*inspect))
    finally:
        swarm.docker("stack", "rm", "ports")
    assert found["Mode"] == "vip"
    assert [(port["PublishedPort"], port["PublishMode"]) for port in found["Ports"]] == [
        (port, "ingress") for port in (Settings().port, Settings().grpc_port)
    ]
