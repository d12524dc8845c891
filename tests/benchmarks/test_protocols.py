"""The protocols side by side: it runs, and prints a figure for each."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.protocols import run
from tests.gateway.command import wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is not installed (apt-get install nghttp2-client)"
)


def test_every_way_has_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    run(quick=True)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("% |") and "requests/s" not in line]
    assert len(rows) == 6
    assert rows[0].endswith("| 100% |")


def test_a_term_ends_the_servers_too() -> None:
    command = [str(Path(sys.executable).parent / "fashion-mnist"), "bench", "protocols", "--quick"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as bench:
        started = psutil.Process(bench.pid)

        def children() -> list[psutil.Process]:
            return started.children(recursive=True)

        # The supervisor, and the gateway below it.
        wait_until(lambda: len(children()) >= 2, "a server", 60)
        servers = children()
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(30) == 128 + signal.SIGTERM
        assert psutil.wait_procs(servers, timeout=0)[1] == []
