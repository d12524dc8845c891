"""Two machines, made on this one: network namespaces with a cable between them, and a Docker engine in each."""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.containers.engine import Engine, cannot_run

ADDRESSES = ("198.18.0.1", "198.18.0.2")
"""Of RFC 2544: no network has them."""
DATA_GIB = 4
"""The most that images and containers of one machine may take; they take half of one."""
START_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True)
class Machine:
    """A machine with a Docker engine of its own."""

    address: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    """The engine, whose namespaces are the machine: they end with the last process in them."""

    @property
    def engine(self) -> Engine:
        """Its engine."""
        return _engine(self.folder)

    @property
    def log(self) -> str:
        """What the engine said."""
        return (self.folder / "log").read_text()


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Both, with their engines up; in the end their containers, processes, namespaces and files are gone."""
    for program in ("dockerd", "ip", "unshare"):
        if shutil.which(program) is None:
            cannot_run(f"there is no {program}: apt-get install docker.io iproute2 util-linux")
    if os.getuid() != 0:
        cannot_run("only root can make network namespaces: run the tests as root")
    vxlan = ["unshare", "--net", "ip", "link", "add", "try", "type", "vxlan", "id", "1", "dstport", "4789"]
    if subprocess.run(vxlan, capture_output=True, timeout=30, check=False).returncode:
        pytest.skip("this kernel has no VXLAN, over which containers of two machines talk")
    # Sockets below it have paths of some 80 characters, and 107 is the most.
    folder = Path(tempfile.mkdtemp(prefix="swarm-", dir="/tmp"))
    machines: list[Machine] = []
    try:
        for address in ADDRESSES:
            own = folder / str(len(machines))
            machines.append(Machine(address, own, _start(own)))
        for machine in machines:
            _wait(machine)
        first, second = machines
        ends = [["name", "eth0", "netns", str(machine.process.pid)] for machine in machines]
        _run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]])
        for machine in machines:
            within = ["nsenter", f"--net=/proc/{machine.process.pid}/ns/net", "ip"]
            _run([*within, "address", "add", f"{machine.address}/24", "dev", "eth0"])
            _run([*within, "link", "set", "eth0", "up"])
        yield first, second
    finally:
        _stop([machine.process for machine in machines], folder)
        shutil.rmtree(folder)


def _engine(folder: Path) -> Engine:
    return Engine(f"unix://{folder}/socket")


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    data = folder / "data"
    data.mkdir(parents=True)
    engine: list[str | Path] = ["dockerd", "--host", _engine(folder).host, "--data-root", data]
    engine += ["--exec-root", folder / "exec", "--pidfile", folder / "pid", "--bridge", "none", "--no-new-privileges"]
    # What is mounted is in a namespace too, and gone with its last process. Images in memory are unpacked, and gone, in
    # a tenth of the time.
    mount = f"mount -t tmpfs -o size={DATA_GIB}g data {data}"
    script = f"ip link set lo up && {mount} && exec {shlex.join(map(str, engine))}"
    # Each of these becomes the next, and so one process. It ends with ours, also where that is killed.
    command = ["setpriv", "--pdeathsig", "TERM", "unshare", "--net", "--mount", "sh", "-c", script]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


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


def _wait(machine: Machine) -> None:
    deadline = time.monotonic() + START_S
    while machine.engine.run(["docker", "version"], timeout_s=20).returncode:
        assert machine.process.poll() is None, f"dockerd ended: {machine.log[-2000:]}"
        assert time.monotonic() < deadline, f"dockerd does not answer: {machine.log[-2000:]}"
        time.sleep(0.1)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
