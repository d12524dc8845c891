"""Two machines, made on this one: network namespaces with a cable between them, and a Docker engine in each."""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.containers.engine import Engine

ADDRESSES = ("198.18.0.1", "198.18.0.2")
"""Of RFC 2544: no network has them."""
DATA_GIB = 4
"""The most that images and containers of one machine may take; they take half of one."""
START_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True)
class Machine:
    """A machine with a Docker engine of its own."""

    namespace: str
    address: str
    folder: Path

    @property
    def engine(self) -> Engine:
        """Its engine."""
        return Engine(f"unix://{self.folder}/socket")

    @property
    def log(self) -> str:
        """What the engine said."""
        return (self.folder / "log").read_text()


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Both, with their engines up; in the end their containers, processes, namespaces and files are gone."""
    for program in ("dockerd", "ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: apt-get install docker.io iproute2 util-linux")
    if os.getuid() != 0:
        pytest.skip("only root can make network namespaces: run the tests as root")
    with ExitStack() as cleanup:
        # Sockets below it have paths of some 80 characters, and 107 is the most.
        folder = Path(tempfile.mkdtemp(prefix="swarm-", dir="/tmp"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        names = [f"fm{os.getpid()}{letter}" for letter in "ab"]
        for name in names:
            _run(["ip", "netns", "add", name])
            cleanup.callback(_run, ["ip", "netns", "delete", name])
            _run(["ip", "-netns", name, "link", "set", "lo", "up"])
        first, second = names
        vxlan = ["ip", "-netns", first, "link", "add", "try", "type", "vxlan", "id", "1", "dstport", "4789"]
        if subprocess.run(vxlan, capture_output=True, timeout=30, check=False).returncode:
            pytest.skip("this kernel has no VXLAN, over which containers of two machines talk")
        _run(["ip", "-netns", first, "link", "delete", "try"])
        _run(["ip", "link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", "eth0", "netns", second])
        machines = []
        for name, address in zip(names, ADDRESSES, strict=True):
            _run(["ip", "-netns", name, "address", "add", f"{address}/24", "dev", "eth0"])
            _run(["ip", "-netns", name, "link", "set", "eth0", "up"])
            machines.append(Machine(name, address, folder / name[-1]))
        engines: list[subprocess.Popen[bytes]] = []
        cleanup.callback(_stop, engines, folder)
        engines += [_start(machine) for machine in machines]
        for machine, engine in zip(machines, engines, strict=True):
            _wait(machine, engine)
        yield machines[0], machines[1]


def _start(machine: Machine) -> "subprocess.Popen[bytes]":
    folder = machine.folder
    data = folder / "data"
    data.mkdir(parents=True)
    engine: list[str | Path] = ["dockerd", "--host", machine.engine.host, "--data-root", data]
    engine += ["--exec-root", folder / "exec", "--pidfile", folder / "pid", "--bridge", "none", "--no-new-privileges"]
    # What is mounted is in a namespace too, and gone with its last process. Images in memory are unpacked, and gone, in
    # a tenth of the time.
    within = ["nsenter", f"--net=/run/netns/{machine.namespace}", "unshare", "--mount", "sh", "-c"]
    script = f"mount -t tmpfs -o size={DATA_GIB}g data {data} && exec {shlex.join(map(str, engine))}"
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [*within, script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _stop(engines: "list[subprocess.Popen[bytes]]", folder: Path) -> None:
    """End engines, which end their containers, and whatever was left by one that had to be killed."""
    for engine in engines:
        engine.terminate()
    deadline = time.monotonic() + STOP_S
    for engine in engines:
        try:
            engine.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait(STOP_S)
    # The arguments of an engine's processes name the folder that no other engine has; what they started need not.
    ours = [each for each in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(each.info["cmdline"] or [])]
    left = [*ours, *(child for each in ours for child in each.children(recursive=True))]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, STOP_S)


def _wait(machine: Machine, engine: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while machine.engine.run(["docker", "version"], timeout_s=20).returncode:
        assert engine.poll() is None, f"dockerd ended: {machine.log[-2000:]}"
        assert time.monotonic() < deadline, f"dockerd does not answer: {machine.log[-2000:]}"
        time.sleep(0.1)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
