"""A Docker engine for the tests: the one that runs, which is left as it is, or else one of our own.

Our own keeps its layers in ~/.cache/fashion-mnist/engine, so that the next run finds them, and ends with the tests.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

CACHE: Final = Path.home() / ".cache" / "fashion-mnist" / "engine"
BASE: Final = "debian:bookworm-slim"
START_S: Final = 60.0
DEBOOTSTRAP_S: Final = 600.0


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers."""

    host: str
    """What DOCKER_HOST is for it; empty: whatever it is here."""

    def environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """Variables for a command that is to talk to it."""
        host = {"DOCKER_HOST": self.host} if self.host else {}
        return {**os.environ, **host, **(variables or {})}

    def docker(self, *arguments: str | Path, timeout_s: float = 60.0) -> str:
        """What `docker ARGUMENTS` prints; an AssertionError with its words where it fails."""
        done = self.run(["docker", *arguments], timeout_s=timeout_s)
        assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr[-2000:]}{done.stdout[-2000:]}"
        return done.stdout.strip()

    def run(
        self,
        command: Sequence[str | Path],
        *,
        timeout_s: float = 60.0,
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command that talks to it, whatever its exit status."""
        return subprocess.run(
            command,
            cwd=folder,
            env=self.environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        (found,) = json.loads(self.docker("container", "inspect", container))
        assert isinstance(found, dict)
        return found

    def health(self, container: str) -> str:
        """Its health: starting, healthy or unhealthy."""
        return str(self.inspect(container)["State"]["Health"]["Status"])


def cannot_run(reason: str) -> NoReturn:
    """Skip the test; in CI, which installs what is missing, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def an_engine() -> Iterator[Engine]:
    """The engine that runs, else one of our own until the block ends. Skips where neither can be had."""
    for program in ("docker", "runc"):
        if shutil.which(program) is None:
            cannot_run(f"there is no {program}: apt-get install docker.io docker-compose debootstrap runc iptables")
    running = Engine("")
    if running.run(["docker", "version"], timeout_s=30).returncode == 0:
        yield running
        return
    if shutil.which("dockerd") is None or os.getuid() != 0:
        cannot_run("no Docker engine runs, and only root can start one: start one, or run the tests as root")
    with _own_engine() as own:
        yield own


@contextmanager
def _own_engine() -> Iterator[Engine]:
    """An engine with a socket and state of its own, ended by its process id, and its mounts with it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # A short path, as sockets need it.
    folder = Path(tempfile.mkdtemp(prefix="fm-engine-"))
    engine = Engine(f"unix://{folder}/socket")
    log = folder / "log"
    interfaces, rules = _interfaces(), _packet_rules()
    command: list[str | Path] = ["dockerd", "--host", engine.host, "--data-root", CACHE, "--exec-root", folder / "exec"]
    command += ["--pidfile", folder / "pid"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_S
        while engine.run(["docker", "version"]).returncode:
            assert process.poll() is None, f"dockerd ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"dockerd does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.2)
        yield engine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for mount in _mounts_below(folder, CACHE):
            subprocess.run(["umount", "--lazy", mount], timeout=30, check=False)
        for interface in _interfaces() - interfaces:
            subprocess.run(["ip", "link", "delete", interface], timeout=30, check=False)
        if rules:
            subprocess.run(["iptables-restore"], input=rules, text=True, timeout=30, check=True)
        shutil.rmtree(folder)


def _interfaces() -> set[str]:
    """Docker's bridges, which an engine leaves behind."""
    return {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(("docker", "br-"))}


def _packet_rules() -> str:
    """The kernel's rules for packets, to which an engine adds its own and leaves them; empty without iptables."""
    if shutil.which("iptables-save") is None:
        return ""
    tables = [
        subprocess.run(["iptables-save", "-t", table], capture_output=True, text=True, timeout=30, check=True).stdout
        for table in ("filter", "nat")
    ]
    return "".join(tables)


def _mounts_below(*folders: Path) -> list[Path]:
    """What is mounted below some folders, the deepest first."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [point for point in points if any(point.is_relative_to(folder) for folder in folders)]
    return sorted(below, key=lambda point: len(point.parts), reverse=True)


def ensure_base(engine: Engine) -> None:
    """Have the base image: it is there, or is pulled, or, where no registry is reachable, made of Debian packages."""
    if engine.run(["docker", "image", "inspect", BASE]).returncode == 0:
        return
    if engine.run(["docker", "pull", "--quiet", BASE], timeout_s=120).returncode == 0:
        return
    if shutil.which("debootstrap") is None or os.getuid() != 0:
        cannot_run(f"{BASE} cannot be pulled, and making it takes root: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="fm-base-") as name:
        options = ["--variant=minbase", "--include=ca-certificates", "bookworm"]
        command = ["debootstrap", *options, name, _mirror()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEBOOTSTRAP_S, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        script = f'tar -C "$1" --exclude=./dev/* -c . | docker import - {BASE}'
        done = engine.run(["bash", "-o", "pipefail", "-c", script, "import", name], timeout_s=300)
        assert done.returncode == 0, done.stderr


def _mirror() -> str:
    """Where apt of this machine gets Debian from."""
    filters = ["Created-By: Packages", "Component: main", "Origin: Debian", "Label: Debian"]
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()[0]
