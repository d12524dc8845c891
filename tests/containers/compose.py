"""docker-compose.yml, up under a project name of the test's own, on ports that are free, and taken down again."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.containers.building import ROOT
from tests.containers.engine import Engine
from tests.support.command import wait_until

FREE_PORTS: Final = {f"FASHION_MNIST_{name}": "0" for name in ("PORT", "GRPC_PORT", "ADMIN_PORT")}
HEALTHY_S: Final = 120.0
UP_S: Final = 120.0


@dataclass(frozen=True)
class Project:
    """The services of one project; `files` are its Compose files, in order."""

    engine: Engine
    files: tuple[Path, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"fm-test-{os.getpid()}-{secrets.token_hex(3)}")

    @property
    def program(self) -> str:
        """The command: Debian's, or its second version's."""
        return "docker-compose" if shutil.which("docker-compose") else "docker compose"

    def compose(self, *arguments: str, timeout_s: float = UP_S) -> "subprocess.CompletedProcess[str]":
        """Run Compose, whatever its exit status."""
        files = [option for file in self.files for option in ("--file", str(file))]
        command = [
            *self.program.split(),
            "--project-name",
            self.name,
            "--project-directory",
            str(ROOT),
            *files,
            *arguments,
        ]
        return self.engine.run(command, timeout_s=timeout_s, variables={**FREE_PORTS, **self.variables})

    def up(self, *services: str, profile: str | None = None) -> None:
        """Start services, of images that are there; they need not be ready."""
        profiles = [] if profile is None else ["--profile", profile]
        done = self.compose(*profiles, "up", "--detach", "--no-build", *services)
        assert done.returncode == 0, done.stderr

    def container(self, service: str) -> str:
        """The id of a service's one container."""
        labels = [f"label=com.docker.compose.{name}={value}" for name, value in self._labels(service).items()]
        filters = [option for label in labels for option in ("--filter", label)]
        (container,) = self.engine.docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()
        return container

    def _labels(self, service: str) -> dict[str, str]:
        return {"project": self.name, "service": service}

    def address(self, service: str, port: int) -> str:
        """Where a published port is reached, HOST:PORT."""
        return self.engine.docker("port", self.container(service), str(port)).splitlines()[0]

    def wait_until_healthy(self, service: str) -> None:
        """Wait until the engine calls a service healthy."""
        container = self.container(service)
        wait_until(lambda: self.engine.health(container) == "healthy", f"{service} healthy", HEALTHY_S)

    def logs(self, service: str) -> str:
        """All that a service has said."""
        done = self.engine.run(["docker", "logs", self.container(service)])
        return done.stdout + done.stderr


@contextmanager
def project(engine: Engine, *more: Path, **variables: str) -> Iterator[Project]:
    """A project of docker-compose.yml and more files; its containers, networks and volumes are removed in the end."""
    found = Project(engine, (ROOT / "docker-compose.yml", *more), variables)
    try:
        yield found
    finally:
        done = found.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")
    assert done.returncode == 0, done.stderr
