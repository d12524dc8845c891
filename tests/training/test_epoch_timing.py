"""The timing of an epoch: that it measures all three ways."""

import re
import sys

import pytest
import torch

from training import timing


def test_prints_the_time_of_each_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(timing, "IMAGES", 1024)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(sys, "argv", ["timing", "1"])
    try:
        timing.main()
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["fused", "torch", "DataLoader"]
    for line in lines:
        assert float(re.findall(r"([\d.]+) s an epoch", line)[0]) > 0
        assert "1 threads, batches of 512" in line
