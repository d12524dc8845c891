"""The timing behind what folding.py claims: that it measures all graphs, at every batch size."""

import re
import sys
from pathlib import Path

import pytest

from export import timing


def test_prints_a_time_for_each_graph_and_batch(
    model_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "IMAGES", 64)
    monkeypatch.setattr(sys, "argv", ["timing", str(model_store / "weights.pt")])
    timing.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["exported", "folded", "step_by_step"]
    for line in lines:
        times = dict(re.findall(r"batch (\d+): ([\d.]+) us an image", line))
        assert list(times) == ["1", "8", "32", "64"]
        assert all(0 < float(time) < 1e5 for time in times.values())
