"""LoadGen drives the real server, and its verdict and ours arrive; what was measured is nobody's business here."""

import json
import re
import socket
from pathlib import Path

import pytest

from benchmarks.open_loop import loadgen, measure, sender
from benchmarks.open_loop.loadgen import Plan
from fashion_mnist.errors import UsageError
from loadtest.kinds import Sent, find_kind
from loadtest.requests import Request, prepare
from tests.support.command import ServeCommand, serve_command, wait_until


def test_a_quick_run_gives_every_figure(tmp_path: Path) -> None:
    table = measure.run(tmp_path, quick=True, engines=["embedded"])
    for title, rows in json.loads((tmp_path / "open-loop.json").read_text())["engines"].items():
        assert title in table
        assert [row["name"].split(",")[0].split(":")[0] for row in rows] == [
            "accuracy mode",
            "SingleStream",
            "MultiStream",
            "Offline",
            "closed_1",
            "closed_64",
            "Server",
            "Server at half of that",
            "closed_64",
            "Server",
            "overload",
            "overload",
        ]
        assert all(row["figure"] > 0 for row in rows)
        assert rows[0]["figure"] == 100
        aims = [aim for row in rows for aim in row["aims"]]
        assert aims[0] in (f"p99 <= 5 ms: {reached}" for reached in ("reached", "missed"))
        assert re.fullmatch(r"\d+% of that, >= 90%: (reached|missed)", aims[1])
        assert all(re.fullmatch(r"\d+% refused, p99 .* ms, <= 10 ms: .*|nothing refused", aims[at]) for at in (2, 4))
        assert len(aims) == 5
        assert all(aim in table for aim in aims)
    assert list(tmp_path.glob("loadgen/*/*/mlperf_log_summary.txt"))
    assert list(tmp_path.glob("loadgen/*/*/mlperf_log_detail.txt"))
    assert "<svg" in (tmp_path / "open-loop-embedded-False.svg").read_text()


def test_what_is_sent_can_be_chosen(tmp_path: Path) -> None:
    measure.run(tmp_path, quick=True, engines=["embedded"], soak_s=5, rate=100, kind="grpc")
    ((accuracy, soak),) = json.loads((tmp_path / "soak-grpc.json").read_text())["engines"].values()
    assert accuracy["figure"] == 100
    assert soak["figure"] > 0


@pytest.mark.parametrize(("kind", "said"), [("png", "a png holds one image"), ("smoke", "no kind of request 'smoke'")])
def test_what_cannot_be_packed_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        measure.run(tmp_path, quick=True, kind=kind)


def test_a_soak_at_a_rate_that_is_known_is_all_that_is_measured(tmp_path: Path) -> None:
    measure.run(tmp_path, quick=True, engines=["embedded"], soak_s=5, rate=100)
    ((accuracy, soak),) = json.loads((tmp_path / "soak.json").read_text())["engines"].values()
    assert accuracy["figure"] == 100
    assert soak["name"].startswith("soak, 5 s: p99 of its tenths ")
    assert re.search(r"after the last: gateway (\d+\.\d(, |$)){3}", soak["name"])
    assert [aim.partition(":")[0] for aim in soak["aims"]] == [
        "p99 of its tenths within 2 times each other",
        "gateway within 1.02 times its memory after the first",
    ]


def test_a_rate_without_a_soak_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="say how many seconds"):
        measure.run(tmp_path, rate=100)


def test_an_engine_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no engine is called triton: there are embedded and torchserve"):
        measure.run(tmp_path, quick=True, engines=["triton"])


def test_a_run_that_is_too_short_is_invalid_by_loadgen(embedded: ServeCommand, tmp_path: Path) -> None:
    plan = Plan("Server", 0.1, queries=5, rate=50, bound_ms=0.001)
    outcome = loadgen.run(embedded.url, prepare([find_kind("binary")]), plan, tmp_path)
    assert not outcome.valid
    assert set(outcome.statuses) == {200}


def test_latencies_of_a_closed_loop_are_not_those_of_its_line(embedded: ServeCommand, tmp_path: Path) -> None:
    plan = Plan("Offline", 0.2, queries=200, rate=100, at_once=2)
    outcome = loadgen.run(embedded.url, prepare([find_kind("binary")]), plan, tmp_path)
    # Two at a time: all answers together took no longer than two runs, and half of them no less than the median.
    assert 0 < outcome.percentiles_ms["p50"] * outcome.seen.answered / 2 < 2 * 1e3 * outcome.seconds


def test_wrong_labels_and_failures_are_seen(embedded: ServeCommand, tmp_path: Path) -> None:
    right = prepare([find_kind("binary")])[:4]
    wrong = [Request(each.kind, each.sent, ["Bag" if each.labels == ["Coat"] else "Coat"]) for each in right]
    refused = [Request(each.kind, Sent(each.sent.path, b"no image", each.sent.headers), each.labels) for each in right]
    plan = Plan("Offline", 0.2, queries=20, rate=100, at_once=2)
    seen = loadgen.run(embedded.url, wrong, plan, tmp_path / "wrong")
    assert seen.seen.wrong_labels
    assert not seen.seen.answered
    assert "wrong labels" in seen.reasons[0]
    junk = [Request(find_kind("json"), each.sent, each.labels) for each in right]
    seen = loadgen.run(embedded.url, junk, plan, tmp_path / "junk")
    assert seen.seen.failures == {"no labels in the answer": seen.seen.requests}
    seen = loadgen.run(embedded.url, refused, plan, tmp_path / "refused")
    assert seen.seen.failures == {"status 400": seen.seen.requests}
    assert seen.reasons == [f"{seen.seen.requests:,} requests failed"]


def test_refusals_are_failures_unless_they_are_asked_for(tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_MAX_QUEUED_IMAGES="1") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        for refusals in (False, True):
            plan = Plan("Offline", 0.2, queries=500, rate=100, at_once=32, refusals=refusals)
            outcome = loadgen.run(command.url, prepare([find_kind("binary")]), plan, tmp_path / str(refusals))
            assert outcome.statuses.keys() == {200, 429}
            assert outcome.reasons == ([] if refusals else [f"{outcome.statuses[429]:,} requests failed"])
            assert outcome.refusals.total() == (outcome.statuses[429] if refusals else 0)


def test_a_server_that_is_not_there_is_no_hang(tmp_path: Path) -> None:
    plan = Plan("Offline", 0.2, queries=20, rate=100, at_once=2)
    outcome = loadgen.run("http://127.0.0.1:9/", prepare([find_kind("binary")])[:4], plan, tmp_path)
    assert outcome.statuses.keys() == {0}
    assert outcome.seen.failures


def test_a_server_that_never_answers_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "ANSWER_S", 0.2)
    plan = Plan("Offline", 0.2, queries=20, rate=100, at_once=8)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        outcome = loadgen.run(url, prepare([find_kind("binary")])[:4], plan, tmp_path)
    assert outcome.statuses.keys() == {0}


def test_accuracy_mode_sends_each_image_once(embedded: ServeCommand, tmp_path: Path) -> None:
    requests = prepare([find_kind("binary x 100")], requests=None)
    plan = Plan("Offline", 1, rate=100, at_once=4, accuracy=True)
    outcome = loadgen.run(embedded.url, requests, plan, tmp_path)
    assert outcome.accuracy == 1.0
    assert outcome.seen.images == 10_000


def test_accuracy_mode_sees_what_is_not_as_it_must_be(embedded: ServeCommand, tmp_path: Path) -> None:
    requests = prepare([find_kind("binary x 100")], 4)
    labels = requests[0].labels
    wrong = Request(requests[0].kind, requests[0].sent, ["Bag" if labels[0] == "Coat" else "Coat", *labels[1:]])
    plan = Plan("Offline", 1, rate=100, at_once=4, accuracy=True)
    outcome = loadgen.run(embedded.url, [wrong, *requests[1:]], plan, tmp_path)
    assert outcome.accuracy == 399 / 400
