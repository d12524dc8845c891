"""Other servers beside ours: each answers as the model must, or the table says why it did not run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest

from benchmarks import servers
from benchmarks.load import RunFailed
from benchmarks.peers import catalogue, kinds, report, run
from benchmarks.peers.catalogue import DOCUMENTED, EMBEDDED, TUNED, Peer
from benchmarks.peers.family import family
from benchmarks.peers.nginx import nginx
from benchmarks.servers import Server
from fashion_mnist.data.splits import Dataset
from fashion_mnist.errors import UsageError
from tests.support.command import COMMAND, wait_until

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt-get install wrk)")
NGINX = "nginx, a constant answer"


def test_a_quick_run_gives_table_figures_and_plot(tmp_path: Path) -> None:
    chosen = [word for name in ("FastAPI", EMBEDDED, NGINX, "Triton") for word in ("--peer", name)]
    command = [COMMAND, "bench", "peers", "--quick", "--output", str(tmp_path), *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = json.loads((tmp_path / "peers.json").read_text())["rows"]
    ran = [row for row in rows if "reason" not in row]
    expected = {(name, setup) for name in ("FastAPI", EMBEDDED) for setup in (DOCUMENTED, TUNED)}
    assert expected <= {(row["server"], row["setup"]) for row in ran}
    assert all(row["per_second"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in ran)
    assert all(
        row["cpu_s_per_1000"] > 0 and row["pss_mib"] > 1 for row in ran if row["server"] in ("FastAPI", EMBEDDED)
    )
    table = (tmp_path / "peers.md").read_text()
    assert "| FastAPI | tuned | raw bytes |" in table
    assert "| Triton | tuned | OIP, binary | did not run: not run here: " in table
    assert ElementTree.parse(tmp_path / "peers.svg").getroot().tag.endswith("svg")


def test_a_peer_that_does_not_start_and_one_that_is_wrong_end_no_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def broken(folder: Path) -> Iterator[Server]:
        folder.mkdir()
        with servers.started([sys.executable, "-c", "raise SystemExit('no such model')"], os.environ, folder):
            raise RunFailed("it ended before it was ready")
        yield

    constant = partial(nginx, kind=kinds.RAW)
    others = [Peer("Broken", TUNED, kinds.RAW, broken), Peer("Wrong", TUNED, kinds.RAW, constant)]
    good = [each for each in catalogue.peers() if each.name == NGINX]
    monkeypatch.setattr(run, "peers", lambda: others + good)
    rows = run.run(tmp_path, quick=True)["rows"]
    reasons = {row["server"]: row.get("reason", "") for row in rows}
    assert reasons["Broken"] == "it ended before it was ready"
    assert "labels are not the model's" in reasons["Wrong"]
    assert reasons[NGINX] == ""
    assert (
        "| Broken | tuned | raw bytes | did not run: it ended before it was ready |"
        in (tmp_path / "peers.md").read_text()
    )


@pytest.mark.parametrize("rates", [[], [59_358], [59_358, 64_437], [12, 64_437]], ids=str)
def test_servers_are_plotted_however_near_to_each_other(rates: list[int]) -> None:
    rows = [
        {"server": str(rate), "setup": TUNED, "connections": report.AT, "per_second": rate, "cpu_s_per_1000": 1 / rate}
        | {"lowest": rate, "highest": rate}
        for rate in rates
    ]
    drawn = report.plot({"rows": rows})
    assert [rate for rate in rates if f"<!-- {rate:,} -->" not in drawn] == []


def test_a_name_that_is_no_peers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no peer is called 'FastApi'"):
        run.run(tmp_path, quick=True, only=["FastApi"])


def test_a_daemon_that_left_its_parent_is_seen_and_ended(tmp_path: Path) -> None:
    daemon = "import os, time; os.setsid(); open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    starts = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {daemon!r}])"
    with family() as started:
        subprocess.run([sys.executable, "-c", starts], cwd=tmp_path, check=True, timeout=30)
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the daemon")
        pid = int((tmp_path / "pid").read_text())
        assert pid in {process.pid for process in started.members()}
        assert started.memory_mib(os.getpid())["pss"] > 1
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("kind", [each for each in vars(kinds).values() if isinstance(each, kinds.Kind)])
def test_bodies_of_a_kind_have_the_headers_that_are_sent_with_all(kind: kinds.Kind, dataset: Dataset) -> None:
    black, image = kind.write(np.zeros((1, 28, 28), np.uint8)), kind.write(dataset.test.images[0])
    assert (black == image) == kind.of_one_image
    if head := kind.headers.get("Inference-Header-Content-Length"):
        assert all(json.loads(body[: int(head)])["inputs"][0]["name"] == "images" for body in (black, image))
