"""deploy/stack.yml says the same of the server as docker-compose.yml, but for what several machines ask for.

That Docker takes and runs it is tested in tests/containers/test_swarm.py.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_mnist.settings import PREFIX, Settings
from gateway.process.supervisor import KILL_S

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "deploy" / "stack.yml"
PORTS = ROOT / "deploy" / "stack.ports.yml"


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """deploy/stack.yml."""
    found: dict[str, Any] = yaml.safe_load(STACK.read_text())
    return found


@pytest.fixture(scope="module")
def server(stack: dict[str, Any]) -> dict[str, Any]:
    """Its only service."""
    (found,) = stack["services"].values()
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def embedded() -> dict[str, Any]:
    """The service of docker-compose.yml that it is."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["embedded"]
    return found


def seconds(text: str) -> int:
    """A duration such as 30s."""
    return int(text.removesuffix("s"))


def test_it_is_the_image_and_the_container_of_compose(server: dict[str, Any], embedded: dict[str, Any]) -> None:
    assert server["image"].replace("${TAG:-embedded}", "embedded") == embedded["image"]
    for same in ("read_only", "cap_drop", "logging", "healthcheck", "command", "entrypoint", "init", "user"):
        assert server.get(same) == embedded.get(same), same
    (mount,) = server["volumes"]
    (tmpfs,) = embedded["tmpfs"]
    assert (mount["type"], mount["target"]) == ("tmpfs", "/tmp")
    assert f"size={mount['tmpfs']['size'] // 2**20}m" in tmpfs
    limits = server["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) == embedded["cpus"]
    assert (limits["memory"], limits["pids"]) == (embedded["mem_limit"], embedded["pids_limit"])


def test_settings_are_those_of_compose_and_what_several_machines_need(
    server: dict[str, Any], embedded: dict[str, Any]
) -> None:
    ours = {name: str(value) for name, value in server["environment"].items()}
    theirs = {name: str(value) for name, value in embedded["environment"].items()}
    # Compose publishes on loopback; a network of several machines is reached by others, who need a key.
    assert theirs.pop(f"{PREFIX}AUTH") == "off"
    assert theirs.pop(f"{PREFIX}PAGE") == "on"
    own = {f"{PREFIX}{name}" for name in ("KEY_FILE", "DRAIN_S", "SHUTDOWN_TIMEOUT_S")}
    assert {name: value for name, value in ours.items() if name not in own} == theirs
    assert own <= ours.keys()
    assert Settings.from_environment(ours).auth == "auto"


def test_keys_come_from_a_secret_that_the_server_alone_can_read(stack: dict[str, Any], server: dict[str, Any]) -> None:
    (secret,) = server["secrets"]
    assert server["environment"][f"{PREFIX}KEY_FILE"] == f"/run/secrets/{secret['target']}"
    assert (secret["uid"], secret["gid"], secret["mode"]) == ("10001", "10001", 0o400)
    assert stack["secrets"][secret["source"]] == {"external": True, "name": "fashion-mnist-keys"}


def test_a_task_goes_when_its_successor_is_healthy_and_has_time_to(server: dict[str, Any]) -> None:
    update, back = (server["deploy"][name] for name in ("update_config", "rollback_config"))
    assert (update["order"], update["parallelism"], back["order"]) == ("start-first", 1, "start-first")
    assert (update["failure_action"], update["max_failure_ratio"]) == ("rollback", 0)
    found = Settings.from_environment({name: str(value) for name, value in server["environment"].items()})
    assert found.drain_s > Settings().drain_s
    assert found.shutdown_timeout_s >= found.drain_s + Settings().shutdown_timeout_s, "time for what was sent last"
    assert seconds(server["stop_grace_period"]) > found.shutdown_timeout_s + KILL_S


def test_nothing_is_published_but_by_the_other_file_and_never_the_admin_port(server: dict[str, Any]) -> None:
    assert "ports" not in server
    assert server["deploy"]["endpoint_mode"] == "dnsrr"
    ports = yaml.safe_load(PORTS.read_text())["services"]["server"]
    assert [port["target"] for port in ports["ports"]] == [Settings().port, Settings().grpc_port]
    assert ports["deploy"] == {"endpoint_mode": "vip"}, "the routing mesh sends to a virtual address"
