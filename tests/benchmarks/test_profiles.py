"""Flame graphs of a running service, and what samples turn into."""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import profiles
from tests.gateway.command import COMMAND


def test_py_spys_lines_of_one_function_are_one_frame() -> None:
    text = "main (cli/__init__.py:3);predict (fashion_mnist/engines/onnx.py:56) 3\n"
    text += "main (cli/__init__.py:9);predict (fashion_mnist/engines/onnx.py:58) 4\n"
    assert profiles.folded(text) == {("main (__init__.py)", "predict (onnx.py)"): 7}


def test_perfs_samples_are_counted_by_their_stacks() -> None:
    script = "        7f01 epoll_wait\n        7f02 Lio/netty/channel/EventLoop;::run\n\n"
    assert profiles.java_stacks(script * 2) == {("Lio/netty/channel/EventLoop;::run", "epoll_wait"): 2}


def test_a_flame_graph_draws_what_is_wide_enough_and_no_more() -> None:
    stacks: profiles.Stacks = {("main", "decode"): 600, ("main", "compute"): 398, ("main", "rare"): 2}
    picture = profiles.flame_graph(stacks, "a <server>")
    ET.fromstring(picture)
    assert all(f"<!-- {drawn} -->" in picture for drawn in ("main", "decode", "compute"))
    assert "<!-- rare -->" not in picture


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt-get install wrk)")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may sample other processes")
def test_a_quick_run_samples_every_process(tmp_path: Path) -> None:
    command = [COMMAND, "bench", "profile", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in ("embedded-gateway", "torchserve-gateway", "torchserve-worker"):
        assert (tmp_path / f"profile-{name}.svg").read_text().startswith("<svg")
        assert "us of processor time a request" in done.stdout
    assert "predict" in (tmp_path / "profile-embedded-gateway.txt").read_text()
