"""The protocols side by side: it runs, and prints a figure for each."""

import shutil

import pytest

from benchmarks.protocols import run

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is not installed (apt-get install nghttp2-client)"
)


def test_every_way_has_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    run(quick=True)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("% |") and "requests/s" not in line]
    assert len(rows) == 6
    assert rows[0].endswith("| 100% |")
