"""When a process that ended is started again, and when its figures count."""

import time
from pathlib import Path

import pytest

from gateway.observability.metrics import SILENT_S, Metrics, families
from gateway.process import restarts
from gateway.process.restarts import Restarts
from serving import readiness
from serving.health_check import HealthCheck
from tests.support.command import wait_until


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_first_restart_is_at_once_and_later_ones_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    found, pauses = Restarts(), []
    for _ in range(12):
        found.ended()
        ended = clock.now
        while not found.due:
            clock.now += 0.01
        pauses.append(clock.now - ended)
    assert pauses[0] == 0
    assert pauses[3] > pauses[1] > 0
    assert max(pauses) <= 1.5 * restarts.MOST_S + 0.02


def test_what_lies_far_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    found = Restarts()
    for _ in range(5):
        found.ended()
        clock.now += restarts.PER_S + 1
    found.ended()
    assert found.due


def test_a_process_is_silent_after_so_many_checks_that_nobody_answered() -> None:
    state: list[type[readiness.NotReady] | None] = [readiness.Silent]

    def ask() -> None:
        if (error := state[0]) is not None:
            raise error("it says nothing")

    check = HealthCheck(ask, 2)
    try:
        state[0] = None
        wait_until(lambda: check._answered, "an answer", 10)
        state[0] = readiness.Silent
        wait_until(lambda: check.silent, "silence", 10)
        check.restart()
        assert not check.silent, "it has time until its first answer"
    finally:
        check.close()


def test_gauges_of_a_silent_gateway_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gauge(name: str) -> float:
        (found,) = (family for family in families(paths) if family.name == name)
        return float(found.samples[0].value)

    paths = [tmp_path / "one", tmp_path / "two"]
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    one, two = (Metrics(path) for path in paths)
    one.gauges(1, 5, 0, 0)
    two.gauges(1, 7, 0, 0)
    assert (gauge("serving_ready"), gauge("serving_connections"), gauge("serving_silent_gateways")) == (2, 12, 0)
    clock.now += SILENT_S + 1
    two.gauges(1, 7, 0, 0)
    assert (gauge("serving_ready"), gauge("serving_connections"), gauge("serving_silent_gateways")) == (1, 7, 1)
