"""What deploy/Dockerfile and docker-compose.yml promise, as far as it can be read without a container engine."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_mnist.settings import PREFIX, Settings
from requirements import lock
from tests.containers.engine import BASE

ROOT = Path(__file__).resolve().parents[2]
SERVERS = {"server": "torchserve-cpu", "embedded": "embedded", "gpu": "torchserve-gpu"}
"""The target of each service that predicts."""

OTHERS = {"load-master": "loadtest", "load-worker": "loadtest", "train": "train"}
TARGETS = sorted({*SERVERS.values(), *OTHERS.values()})
PORT = re.compile(r"127\.0\.0\.1:\$\{(FASHION_MNIST_\w*PORT):-(\d+)\}:(\d+)")

Services = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    keyword: str
    rest: str


Stages = dict[str, list[Instruction]]


@pytest.fixture(scope="module")
def services() -> Services:
    """The services of docker-compose.yml, merged keys resolved."""
    found: Services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def stages() -> Stages:
    """The instructions of each stage of deploy/Dockerfile, those of the stages that it is made from before its own."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    found: Stages = {"${BASE}": []}
    stage: list[Instruction] = []
    for line in filter(str.strip, lines):
        instruction = Instruction(*line.split(maxsplit=1))
        if instruction.keyword == "FROM":
            parent, _, name = instruction.rest.partition(" AS ")
            stage = found[name] = list(found[parent])
        stage.append(instruction)
    return found


def rests(instructions: list[Instruction], keyword: str) -> list[str]:
    """What follows each `keyword`."""
    return [instruction.rest for instruction in instructions if instruction.keyword == keyword]


def copied(instructions: list[Instruction]) -> list[str]:
    """What is copied from the build context."""
    return [
        source.rstrip("/")
        for rest in rests(instructions, "COPY")
        if not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    ]


def environment(instructions: list[Instruction]) -> dict[str, str]:
    """The image's variables."""
    return dict(pair.split("=", 1) for rest in rests(instructions, "ENV") for pair in shlex.split(rest))


def test_ports_are_published_on_loopback_alone(services: Services) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []
    defaults = [re.sub(r"\$\{\w+:-(\d+)\}", r"\1", port).split(":")[1] for port in ports]
    assert len(set(defaults)) == len(defaults), "two services want the same port"
    for name in SERVERS:
        found = [match.groups() for port in services[name]["ports"] if (match := PORT.fullmatch(port))]
        assert {(variable, inside) for variable, _, inside in found} == {
            ("FASHION_MNIST_PORT", "8080"),
            ("FASHION_MNIST_GRPC_PORT", "8085"),
            ("FASHION_MNIST_ADMIN_PORT", "8086"),
        }
        if name == "server":
            assert all(default == inside for _, default, inside in found)


def test_the_server_is_what_comes_up_and_the_gpu_is_asked_for(services: Services, stages: Stages) -> None:
    assert [name for name, service in services.items() if "profiles" not in service] == ["server"]
    gpu = services["gpu"]
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert environment(stages["torchserve-gpu"])[f"{PREFIX}DEVICE"] == "cuda", "a GPU that is missing must be an error"


@pytest.mark.parametrize("name", [*SERVERS, *OTHERS])
def test_a_service_builds_the_target_that_its_image_is_named_for(name: str, services: Services, stages: Stages) -> None:
    build = services[name]["build"]
    target = {**SERVERS, **OTHERS}[name]
    assert (ROOT / build["context"] / build["dockerfile"]) == ROOT / "deploy" / "Dockerfile"
    assert build["target"] == target
    assert target in stages
    assert services[name]["image"] == f"fashion-mnist:{target}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_lock_files_that_exist(target: str, stages: Stages) -> None:
    (step,) = (step for step in rests(stages[f"packages-{target}"], "RUN") if "install.sh" in step)
    for name in re.findall(r"install\.sh ([a-z -]+)", step)[0].split():
        assert name in lock.VARIANTS or name == "torch-cpu"
        assert f"requirements/{name}.txt" in copied(stages[f"packages-{target}"])


@pytest.mark.parametrize("name", [*SERVERS, *OTHERS])
def test_containers_can_change_nothing_but_their_temporary_folder(name: str, services: Services) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]


def test_every_service_has_its_limits(services: Services) -> None:
    for name, service in services.items():
        assert {"cpus", "mem_limit", "pids_limit"} <= service.keys(), name


@pytest.mark.parametrize("name", SERVERS)
def test_compose_waits_longer_than_the_server_drains(name: str, services: Services) -> None:
    assert int(services[name]["stop_grace_period"].removesuffix("s")) > Settings().shutdown_timeout_s
    assert services[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVERS)
def test_settings_in_the_environment_exist(name: str, services: Services, stages: Stages) -> None:
    image = environment(stages[SERVERS[name]])
    assert image[f"{PREFIX}HOST"] == "0.0.0.0", "a published port reaches the container's own address, not its loopback"
    assert services[name]["environment"][f"{PREFIX}AUTH"] == "off"
    # Raises for a variable that is no setting.
    Settings.from_environment({**image, **services[name]["environment"]})
    with_keys = yaml.safe_load((ROOT / "compose.auth.yml").read_text())["services"][name]
    keys = Settings.from_environment({**image, **services[name]["environment"], **with_keys["environment"]})
    assert (keys.auth, keys.key_file) == ("auto", f"/run/secrets/{with_keys['secrets'][0]}")


def test_all_images_are_of_one_base_that_can_be_pinned() -> None:
    for dockerfile in (ROOT / "deploy" / "Dockerfile", ROOT / "deploy" / "monitoring" / "Dockerfile"):
        text = dockerfile.read_text()
        assert re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE) == [BASE]
        assert not re.findall(r"^FROM (?!\$\{BASE\})\S*:", text, re.MULTILINE), "another base"


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.auth.yml"])
def test_a_key_is_a_file_that_no_inspection_shows(file: str) -> None:
    for name, service in yaml.safe_load((ROOT / file).read_text())["services"].items():
        assert f"{PREFIX}KEY" not in service.get("environment", {}), name


def test_git_takes_no_file_of_keys() -> None:
    """They lie where Compose looks for them: at the root."""
    secrets = yaml.safe_load((ROOT / "compose.auth.yml").read_text())["secrets"].values()
    files = [re.sub(r"\$\{\w+:-(.+)\}", r"\1", secret["file"]) for secret in secrets]
    done = subprocess.run(
        ["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.split() == files, done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_as_nobody_in_particular(target: str, stages: Stages) -> None:
    (user,) = rests(stages[target], "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that Kubernetes can tell that it is not root"
    last_change = max(at for at, step in enumerate(stages[target]) if step.keyword in ("RUN", "COPY"))
    assert last_change < stages[target].index(Instruction("USER", user)), "what is in the image belongs to root"


@pytest.mark.parametrize("target", SERVERS.values())
def test_image_reports_health_by_a_prediction_and_gets_signals(target: str, stages: Stages) -> None:
    (health,) = rests(stages[target], "HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2]) == ["fashion-mnist", "status"]
    # The exec form: with a shell in between, SIGTERM would not arrive.
    assert [json.loads(command) for command in rests(stages[target], "CMD")] == [["fashion-mnist", "serve"]]
    assert [json.loads(command) for command in rests(stages[target], "ENTRYPOINT")] == [["tini", "--"]]
    assert rests(stages[target], "STOPSIGNAL") == ["SIGTERM"]


def test_everything_copied_exists_and_passes_dockerignore(stages: Stages) -> None:
    let_through = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    for stage in stages.values():
        for source in copied(stage):
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern.rstrip("/")) for pattern in let_through), source


@pytest.mark.parametrize(
    ("target", "modules"),
    [
        ("embedded", "cli, gateway.process.worker, gateway.process.supervisor, gateway.models.engines.embedded"),
        ("torchserve-cpu", "cli, gateway.process.worker, gateway.process.supervisor, export.archive"),
        ("torchserve-gpu", "cli, gateway.process.worker, gateway.process.supervisor, export.archive"),
        ("loadtest", "cli, loadtest.scenario, loadtest.requests, loadtest.report"),
        ("train", "cli, training.runs, training.report, export.release"),
    ],
)
def test_image_has_every_room_that_it_imports(target: str, modules: str, stages: Stages) -> None:
    program = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    needed = ours & set(done.stdout.split())
    assert {"fashion_mnist", "cli"} <= needed
    rooms = {rest.split()[-1] for rest in rests(stages[target], "COPY") if rest.startswith("--from=source")}
    assert needed <= rooms
    # What the archive packs, a process of its own runs, or a browser shows, is imported by nothing.
    assert rooms - needed <= {"handlers", "loadtest", "page"}


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_the_building_machine_is_in_an_image(target: str, stages: Stages) -> None:
    assert rests(stages[target], "ARG") == []
    sources = {rest.split()[0] for rest in rests(stages[target], "COPY")} - {"model_store/"}
    assert sources == {f"--from=packages-{target}", "--from=source"}
    assert not any("/wheels" in step.rest for step in stages[target])
