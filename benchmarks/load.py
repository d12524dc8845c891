"""Load by wrk, one thread of C, and what it measured."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fashion_mnist.errors import FashionMNISTError, UsageError

_SCRIPT: Final = Path(__file__).parent / "cycle.lua"
_GRACE_S: Final = 30


class RunFailed(FashionMNISTError):
    """A run with errors or wrong labels: there is no figure to report."""

    code = "run_failed"


@dataclass(frozen=True)
class Bodies:
    """Request bodies, as numbered files in a folder, all of one kind."""

    folder: Path
    count: int
    content_type: str
    accept: str = "*/*"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, the same with each body."""

    @classmethod
    def write(
        cls,
        folder: Path,
        bodies: list[bytes],
        content_type: str,
        accept: str = "*/*",
        headers: Mapping[str, str] | None = None,
    ) -> "Bodies":
        """Write the bodies to a new folder."""
        folder.mkdir()
        for index, body in enumerate(bodies):
            (folder / str(index)).write_bytes(body)
        return cls(folder, len(bodies), content_type, accept, headers or {})


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests a second, and latencies in milliseconds."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> None:
    """Raise UsageError where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise UsageError("the benchmark's load generator is missing: apt-get install wrk")


def run(url: str, bodies: Bodies, *, connections: int, seconds: int) -> Load:
    """Send bodies over so many connections for so long. Raises RunFailed on any answer but a 2xx, and any error."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", str(_SCRIPT), url, "--"]
    command += [str(bodies.folder), str(bodies.count), bodies.content_type, bodies.accept]
    command += [word for header in bodies.headers.items() for word in header]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"wrk did not end within {seconds + _GRACE_S} s") from None
    result = re.search(r"^RESULT (.*)$", done.stdout, flags=re.MULTILINE)
    if result is None:
        raise RunFailed(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    figures = json.loads(result[1])
    if figures["failed"] or not figures["requests"]:
        raise RunFailed(f"{figures['failed']} of {figures['requests']} requests to {url} failed: the run is worthless")
    return Load(
        requests=figures["requests"],
        per_second=figures["requests"] / figures["duration_us"] * 1e6,
        p50_ms=figures["p50_us"] / 1000,
        p99_ms=figures["p99_us"] / 1000,
    )
