"""Where the processor's time goes: flame graphs of gateway, JVM and TorchServe's worker under load.

Python's processes are sampled by py-spy, which counts native code as its caller's; the JVM by perf, where there is one,
with the names that the JVM gives its compiled methods.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import load, servers
from benchmarks.load import Bodies, RunFailed
from benchmarks.report import markdown_table
from benchmarks.servers import MARKS, Server
from fashion_mnist import dataset
from fashion_mnist.atomic import write_text
from fashion_mnist.predictions import OCTET_STREAM
from fashion_mnist.settings import Settings
from loadtest.report import svg
from serving import processes

CONNECTIONS: Final = 64
RATE_HZ: Final = 499
"""Not a round number, so that nothing periodic is sampled in step."""

LEAST: Final = 0.004
"""Of all samples: what is narrower is not drawn."""

LISTED: Final = 20
_GRACE_S: Final = 60

Stacks = Mapping[tuple[str, ...], int]
"""Samples by stack, outermost frame first."""


def run(output: Path, *, quick: bool = False) -> str:
    """Sample under load; print what takes most, keep flame graphs as SVG and stacks as text. Raises RunFailed."""
    load.require_wrk()
    seconds = 2 if quick else 10
    settings = Settings.from_environment()
    images = dataset.load(settings.data).test.images[:256]
    # Without it perf sees no callers.
    os.environ["JAVA_TOOL_OPTIONS"] = "-XX:+PreserveFramePointer"
    output.mkdir(parents=True, exist_ok=True)
    tables = []
    with tempfile.TemporaryDirectory(prefix="fm-") as name:
        folder = Path(name)
        bodies = Bodies.write(folder / "bodies", [image.tobytes() for image in images], OCTET_STREAM)
        for engine in ("embedded", "torchserve"):
            with servers.fashion_mnist(folder / engine, engine) as server:
                load.run(server.url, bodies, connections=CONNECTIONS, seconds=1)
                for what, pid in _find(server.pid).items():
                    path = output / f"profile-{engine}-{what.lower()}"
                    tables.append(_sampled(f"{engine}, {what}", what, pid, server, bodies, seconds, folder, path))
    text = "\n\n".join(tables) + "\n"
    Console(soft_wrap=True, highlight=False).print(text, markup=False)
    return text


def _sampled(
    name: str, what: str, pid: int, server: Server, bodies: Bodies, seconds: int, folder: Path, path: Path
) -> str:
    """Sample one process under load and write its stacks and flame graph beside `path`; its table. Raises RunFailed."""
    if what == "JVM" and shutil.which("perf") is None:
        return f"{name}: not sampled, there is no perf (apt-get install linux-perf)"
    sampling = _Sampling(what, pid, seconds, folder / path.name)
    before = _cpu_s(pid)
    loaded = load.run(server.url, bodies, connections=CONNECTIONS, seconds=seconds)
    used = _cpu_s(pid) - before
    stacks = sampling.stacks()
    title = (
        f"{name}: {1e6 * used / loaded.requests:.0f} us of processor time a request, "
        f"{loaded.per_second:,.0f} requests/s while sampled"
    )
    lines = (f"{';'.join(stack)} {count}\n" for stack, count in sorted(stacks.items()))
    write_text(path.with_suffix(".txt"), "".join(lines))
    write_text(path.with_suffix(".svg"), flame_graph(stacks, title))
    return "\n".join([title, "", *markdown_table(["frame", "%, with what it calls", "%, itself"], _most(stacks))])


def folded(text: str) -> Stacks:
    """Stacks from lines of frames, with semicolons between them, and a count."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        # A thread's name comes first; lines of one function are one frame.
        stacks[tuple(_short(frame) for frame in frames.split(";"))] += int(count)
    return stacks


def flame_graph(stacks: Stacks, title: str) -> str:
    """Callers at the bottom, what they call above them, each as wide as its share of the samples; SVG."""
    total = sum(stacks.values())
    figure = Figure(figsize=(14, 0.22 * max(map(len, stacks), default=1) + 1), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize="small", loc="left")
    axes.axis("off")
    axes.set_xlim(0, 1)
    begun: dict[tuple[str, ...], float] = {}
    width: Counter[tuple[str, ...]] = Counter()
    seen = 0
    for stack, count in sorted(stacks.items()):
        for depth in range(1, len(stack) + 1):
            begun.setdefault(stack[:depth], seen / total)
            width[stack[:depth]] += count
        seen += count
    for path, count in width.items():
        share = count / total
        if share >= LEAST:
            shade = 0.55 + 0.4 * (_shade_of(path[-1]) % 100) / 100
            axes.barh(len(path), share, 0.94, begun[path], color=(1.0, shade, 0.35))
            letters = int(share * 190)
            if letters >= 3:
                axes.text(begun[path] + 0.001, len(path), path[-1][:letters], va="center", fontsize=6, clip_on=True)
    return svg(figure)


def _shade_of(name: str) -> int:
    """A number that stays the same from run to run, unlike `hash`."""
    return sum(place * ord(letter) for place, letter in enumerate(name, 1))


class _Sampling:
    """One process, sampled from now on for some seconds."""

    def __init__(self, what: str, pid: int, seconds: int, path: Path) -> None:
        self._what, self._pid, self._path = what, pid, path
        if what == "JVM":
            command = ["perf", "record", "--quiet", "-e", "cpu-clock", "-F", str(RATE_HZ), "-g", "-p", str(pid)]
            command += ["-o", str(path), "--", "sleep", str(seconds)]
        else:
            command = [str(Path(sys.executable).parent / "py-spy"), "record", "-p", str(pid)]
            command += ["-d", str(seconds), "-r", str(RATE_HZ), "-f", "raw", "-o", str(path), "--nonblocking"]
        self._errors = path.with_suffix(".errors")
        with self._errors.open("wb") as errors:
            self._process = processes.start(command, os.environ, path.parent, errors)

    def stacks(self) -> Stacks:
        """What was seen. Raises RunFailed."""
        try:
            failed = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            failed = 1
        finally:
            processes.stop(self._process, 0)
        if failed or not self._path.exists():
            said = self._errors.read_text(errors="replace")[-300:]
            raise RunFailed(f"{self._what} could not be sampled, which takes root or CAP_SYS_PTRACE: {said}")
        if self._what != "JVM":
            return folded(self._path.read_text())
        # perf looks for the names of compiled methods where the JVM writes them.
        _ask_jvm(self._pid, "jcmd", "Compiler.perfmap")
        script = ["perf", "script", "-i", str(self._path), "-F", "ip,sym"]
        done = subprocess.run(script, capture_output=True, text=True, timeout=_GRACE_S, check=False)
        Path(f"/tmp/perf-{self._pid}.map").unlink(missing_ok=True)
        return java_stacks(done.stdout)


def java_stacks(script: str) -> Stacks:
    """Stacks from what `perf script -F ip,sym` prints: a block of lines a sample, the innermost frame first."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for block in script.split("\n\n"):
        frames = [line.split(maxsplit=1)[1] for line in block.splitlines() if len(line.split(maxsplit=1)) == 2]
        if frames:
            stacks[tuple(_short(frame) for frame in reversed(frames))] += 1
    return stacks


def _ask_jvm(pid: int, *command: str) -> None:
    """Send a command to a JVM by its attach mechanism, as `jcmd` does, which comes with a JDK only. Raises RunFailed.

    https://github.com/openjdk/jdk17/blob/master/src/jdk.attach/linux/classes/sun/tools/attach/VirtualMachineImpl.java
    """
    asking, door = Path(f"/proc/{pid}/cwd/.attach_pid{pid}"), Path(f"/tmp/.java_pid{pid}")
    asking.touch()
    try:
        deadline = time.monotonic() + 10
        while not door.exists():
            if time.monotonic() > deadline:
                raise RunFailed(f"the JVM {pid} does not answer")
            os.kill(pid, signal.SIGQUIT)
            time.sleep(0.1)
    finally:
        asking.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as jvm:
        jvm.settimeout(10)
        jvm.connect(str(door))
        arguments = [*command, "", "", ""][:4]
        jvm.sendall(b"1\0" + b"".join(argument.encode() + b"\0" for argument in arguments))
        while jvm.recv(65536):
            pass


def _find(root: int) -> dict[str, int]:
    """The processes of MARKS below one."""
    lines = {process.pid: " ".join(process.cmdline()) for process in processes.tree(root)}
    return {what: pid for what, mark in MARKS.items() for pid, line in lines.items() if mark in line}


def _cpu_s(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


def _most(stacks: Stacks) -> list[list[str]]:
    """The frames that take most, with what they call and by themselves, in percent."""
    total = sum(stacks.values())
    within: Counter[str] = Counter()
    itself: Counter[str] = Counter()
    for stack, count in stacks.items():
        within.update(dict.fromkeys(stack, count))
        itself[stack[-1]] += count
    return [
        [f"`{frame}`", f"{100 * within[frame] / total:.1f}", f"{100 * count / total:.1f}"]
        for frame, count in itself.most_common(LISTED)
    ]


def _short(frame: str) -> str:
    """A frame without its line, addresses, and the folders of its file."""
    frame = re.sub(r"(\.py):\d+\)$", r"\1)", frame.strip())
    frame = re.sub(r"\+0x[0-9a-f]+$", "", frame)
    return re.sub(r"\((?:[^()]*/)?([^()/]+)\)$", r"(\1)", frame)
