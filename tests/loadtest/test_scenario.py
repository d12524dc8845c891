"""Scenarios: those at hand can be read, and what is wrong with another one is said."""

from pathlib import Path

import pytest

from fashion_mnist.errors import UsageError
from loadtest import scenario

WHOLE = """
mix: {png: 2, raw x 64: 1}
think_s: [0, 0.5]
stages:
  - {clients: 10, ramp_s: 2, hold_s: 8}
  - {clients: 40, hold_s: 10, thresholds: {p99_ms: 900}}
thresholds: {p99_ms: 100, wrong_labels: 0}
"""


@pytest.mark.parametrize("name", scenario.names())
def test_the_ones_at_hand_can_be_read(name: str) -> None:
    found = scenario.read(name)
    assert found.about
    assert all("wrong_labels" in stage.thresholds for stage in found.stages)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WHOLE)
    found = scenario.read(str(path))
    assert found.name == "mine"
    assert [(kind.name, kind.images, parts) for kind, parts in found.mix] == [("png", 1, 2), ("raw x 64", 64, 1)]
    assert found.think_s == (0, 0.5)
    assert [(stage.clients, stage.ramp_s, stage.hold_s) for stage in found.stages] == [(10, 2, 8), (40, 0, 10)]
    assert [dict(stage.thresholds) for stage in found.stages] == [
        {"p99_ms": 100, "wrong_labels": 0},
        {"p99_ms": 900, "wrong_labels": 0},
    ]
    assert found.seconds == 20


def test_it_can_be_scaled_and_keeps_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WHOLE)
    small = scenario.read(str(path)).scaled(clients=4, seconds=2)
    assert [stage.clients for stage in small.stages] == [1, 4]
    assert [stage.ramp_s for stage in small.stages] == pytest.approx([0.2, 0])
    assert [stage.hold_s for stage in small.stages] == pytest.approx([0.8, 1])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("png: 2", "gif: 2", "no kind of request 'gif'"),
        ("png: 2", "png x 3: 2", "a png holds one image"),
        ("png: 2", "png: none", "mix: png"),
        ("png: 2", "png: 0", "mix: png"),
        ("clients: 10", "clients: 0", "needs clients"),
        ("clients: 10", "client: 10", "'client'"),
        ("hold_s: 8", "hold_s: -1", "hold_s"),
        ("hold_s: 8", "hold_s: .inf", "hold_s"),
        ("p99_ms: 900", "p98_ms: 900", "'p98_ms'"),
        ("[0, 0.5]", "[0.5, 0]", "backwards"),
        ("[0, 0.5]", "soon", "think_s"),
        ("mix:", "mixes:", "'mixes'"),
        ("think_s: [0, 0.5]", "until_saturation: maybe", "until_saturation"),
        (WHOLE, "- 1", "a scenario is a mapping"),
        (WHOLE, "mix: {png: 1}", "stages"),
        (WHOLE, "a: [", "no YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = tmp_path / "wrong.yaml"
    assert before in WHOLE
    path.write_text(WHOLE.replace(before, after, 1))
    with pytest.raises(UsageError, match=said) as caught:
        scenario.read(str(path))
    assert "wrong.yaml" in caught.value.message


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UsageError, match="saturation"):
        scenario.read("nothing")
