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

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    keyword: str
    rest: str


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yml, merged keys resolved."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def dockerfile() -> list[Instruction]:
    """The instructions of deploy/Dockerfile."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def served(dockerfile: list[Instruction]) -> list[Instruction]:
    """The instructions of the last stage, the image that runs."""
    last = max(at for at, instruction in enumerate(dockerfile) if instruction.keyword == "FROM")
    return dockerfile[last:]


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


def test_ports_are_published_on_loopback_alone(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:(8080|8085|8086)", port)] == []
    assert len(set(ports)) == len(ports), "two services want the same port"
    assert services["cpu"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in (8080, 8085, 8086)]


def test_cpu_is_what_comes_up_and_the_gpu_is_asked_for(services: dict[str, dict[str, Any]]) -> None:
    assert [name for name, service in services.items() if "profiles" not in service] == ["cpu"]
    gpu = services["gpu"]
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert gpu["environment"]["FASHION_MNIST_DEVICE"] == "cuda", "a GPU that is missing must be an error"


def test_each_service_builds_from_a_lock_that_exists(services: dict[str, dict[str, Any]]) -> None:
    images = set()
    for service in services.values():
        build = service["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()
        assert (ROOT / "requirements" / f"serve-torchserve-{build['args']['WHEELS']}.txt").is_file()
        images.add(service["image"])
    assert len(images) == len(services), "two services build different images under one name"


def test_containers_can_change_nothing_but_their_temporary_folder(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"], name


def test_compose_waits_longer_than_the_server_drains(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert int(service["stop_grace_period"].removesuffix("s")) > Settings().stop_timeout_s


def test_settings_in_the_environment_exist(services: dict[str, dict[str, Any]], served: list[Instruction]) -> None:
    image = dict(pair.split("=", 1) for rest in rests(served, "ENV") for pair in shlex.split(rest))
    assert image[f"{PREFIX}HOST"] == "0.0.0.0", "a published port reaches the container's own address, not its loopback"
    for service in services.values():
        # Raises for a variable that is no setting.
        Settings.from_environment({**image, **service["environment"]})


def test_image_runs_as_nobody_in_particular(served: list[Instruction]) -> None:
    (user,) = rests(served, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that Kubernetes can tell that it is not root"
    last_change = max(at for at, step in enumerate(served) if step.keyword in ("RUN", "COPY"))
    assert last_change < served.index(Instruction("USER", user)), "what is in the image belongs to root"


def test_image_reports_health_by_a_prediction_and_gets_signals(served: list[Instruction]) -> None:
    (health,) = rests(served, "HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2]) == ["fashion-mnist", "status"]
    # The exec form: with a shell in between, SIGTERM would not arrive.
    assert [json.loads(command) for command in rests(served, "CMD")] == [["fashion-mnist", "serve"]]
    assert rests(served, "STOPSIGNAL") == ["SIGTERM"]


def test_everything_copied_exists_and_passes_dockerignore(dockerfile: list[Instruction]) -> None:
    let_through = re.findall(r"^!([^/\n]+)", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in let_through, source


def test_image_has_every_room_that_serving_imports(served: list[Instruction]) -> None:
    modules = "cli, gateway.worker, gateway.supervisor, export.archive"
    program = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    needed = ours & set(done.stdout.split())
    assert {"serving", "gateway"} <= needed
    assert needed <= set(copied(served))


def test_nothing_of_the_building_machine_is_in_the_served_stage(served: list[Instruction]) -> None:
    assert rests(served, "ARG") == []
    assert not any("pip config" in step.rest or "--index-url" in step.rest for step in served)
