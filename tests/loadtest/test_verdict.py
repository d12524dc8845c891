"""What is said of a run: its percentiles, its thresholds, and the files that tell others."""

import json
import math
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import report, verdict
from loadtest.kinds import find_kind
from loadtest.recorder import RESOLUTION, Period, Recorder, Seen, quantile
from loadtest.scenario import Scenario, Stage

THRESHOLDS = {"p50_ms": 10.0, "p99_ms": 50.0, "failures_percent": 1.0, "goodput_per_s": 9.0, "wrong_labels": 0.0}


def period(clients: int = 4, *, latency_ms: float = 5.0, wrong: int = 0, failed: int = 0, held: bool = True) -> Period:
    found = Period(Stage(clients, 0, 10, THRESHOLDS), held, seconds=10)
    for _ in range(100):
        found.seen.right("png", latency_ms, 1)
    for _ in range(wrong):
        found.seen.wrong("png: wrong label, 'Bag' for 'Coat'")
    for _ in range(failed):
        found.seen.failed("png: status 500")
    return found


def scenario(*stages: Period, until_saturation: bool = False) -> Scenario:
    return Scenario(
        "mine", "", ((find_kind("png"), 1.0),), (0, 0), tuple(each.stage for each in stages), until_saturation
    )


def judged(*periods: Period, until_saturation: bool = False) -> verdict.Verdict:
    return verdict.judge(scenario(*periods, until_saturation=until_saturation), periods)


def test_a_run_that_holds_passes() -> None:
    assert judged(period()).passed


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (period(latency_ms=20), "p50_ms"),
        (period(latency_ms=80), "p99_ms"),
        (period(wrong=1), "wrong_labels"),
        (period(failed=5), "failures_percent"),
    ],
)
def test_a_missed_threshold_is_named(bad: Period, name: str) -> None:
    said = judged(period(), bad)
    assert not said.passed
    assert name in [check.name for check in said.stages[1].checks if not check.held]
    assert f"{name} " in report.as_text(said)


def test_a_run_without_an_answer_does_not_pass() -> None:
    empty = Period(Stage(1, 0, 1, {}), True, seconds=1)
    assert not judged(empty).passed


def test_a_run_that_ended_early_does_not_pass() -> None:
    both = scenario(period(), period(8))
    assert not verdict.judge(both, [period()]).passed


def test_what_is_too_much_is_what_saturation_looks_for() -> None:
    said = judged(period(4), period(8), period(16, latency_ms=500), until_saturation=True)
    assert said.passed
    assert said.most_clients == 8
    assert not judged(period(4, latency_ms=500), until_saturation=True).passed


def test_wrong_labels_are_not_what_saturation_looks_for() -> None:
    assert not judged(period(4), period(8, wrong=1), until_saturation=True).passed


def test_a_ramp_may_be_slow() -> None:
    assert verdict.judge(scenario(period()), [period(latency_ms=500, failed=9, held=False), period()]).passed


@pytest.mark.parametrize("until_saturation", [False, True])
def test_a_ramp_may_not_be_wrong(until_saturation: bool) -> None:
    ramp, after = period(wrong=2, held=False), period()
    said = verdict.judge(scenario(after, after, until_saturation=until_saturation), [after, ramp, after])
    assert not said.passed
    assert [judged.figures["wrong_labels"] for judged in said.stages] == [0, 2]
    cut_short = verdict.judge(scenario(after, after, until_saturation=until_saturation), [after, ramp])
    assert not cut_short.passed
    assert said.wrong_labels == {"png: wrong label, 'Bag' for 'Coat'": 2}


@given(st.lists(st.floats(0.02, 1e5), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_right_to_a_part_in_a_hundred(latencies: list[float], share: float) -> None:
    seen = Seen()
    for latency in latencies:
        seen.right("png", latency, 1)
    exact = float(np.quantile(latencies, share, method="inverted_cdf"))
    assert exact <= quantile(seen.distribution(), share) * (1 + 1e-9)
    assert quantile(seen.distribution(), share) <= exact * RESOLUTION * (1 + 1e-9)


def test_what_workers_send_adds_up() -> None:
    whole, master = Seen(), Recorder()
    for _ in range(3):
        worker = Recorder()
        for _ in range(50):
            latency = random.uniform(1, 100)
            for seen in (whole, worker.seen):
                seen.right("png", latency, 2)
                seen.wrong("a")
                seen.failed("b")
        sent = json.loads(json.dumps(worker.take().to_report()))  # as it goes over the wire
        master.seen.merge(Seen.from_report(sent))
        assert not worker.seen.requests
    assert master.seen == whole


def test_a_flood_of_different_messages_does_not_grow() -> None:
    seen = Seen()
    for number in range(10_000):
        seen.failed(f"number {number}")
    assert len(seen.failures) < 100
    assert seen.failures.total() == 10_000


def test_the_files_say_what_the_verdict_says(tmp_path: Path) -> None:
    periods = [period(), period(8, latency_ms=80, wrong=3)]
    said = judged(*periods)
    verdict.write_json(said, tmp_path / "result.json")
    verdict.write_junit(said, tmp_path / "junit.xml")
    report.write(said, periods, tmp_path / "report.html")

    document = json.loads((tmp_path / "result.json").read_text())
    assert document["passed"] is False
    assert document["stages"][0]["figures"]["goodput_per_s"] == 10
    assert document["stages"][1]["figures"]["p99_ms"] == pytest.approx(80, rel=0.02)
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    failures = [case.get("name") for case in suite if case.find("failure") is not None]
    assert suite.get("failures") == str(len(failures))
    assert "stage 2, 8 clients: wrong_labels" in failures
    page = (tmp_path / "report.html").read_text()
    assert "wrong label, &#39;Bag&#39; for &#39;Coat&#39;" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_run_without_one_answer_has_all_its_files(tmp_path: Path) -> None:
    dead = Period(Stage(4, 0, 10, THRESHOLDS), True, seconds=10)
    dead.seen.failed("png: status 503")
    for name, periods in (("dead", [dead]), ("never begun", []), ("only at first", [dead, period()])):
        said = verdict.judge(scenario(dead), periods)
        assert not said.passed
        assert "FAILED" in report.as_text(said)
        verdict.write_json(said, tmp_path / name / "result.json")
        verdict.write_junit(said, tmp_path / name / "junit.xml")
        report.write(said, periods, tmp_path / name / "report.html")
        assert int(ET.parse(tmp_path / name / "junit.xml").getroot()[0].get("failures", 0)) > 0
    assert "no request was answered rightly" in (tmp_path / "dead" / "report.html").read_text()


def test_nothing_measured_is_null_and_no_invalid_json(tmp_path: Path) -> None:
    verdict.write_json(judged(Period(Stage(1, 0, 1, THRESHOLDS), True, seconds=1)), tmp_path / "result.json")
    figures = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)["stages"][0]["figures"]
    assert figures["p50_ms"] is None
    assert math.isclose(figures["goodput_per_s"], 0)
