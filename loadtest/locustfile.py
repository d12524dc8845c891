"""Locust clients that send real test images, in every kind of request, and check every label.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --scenario steady

What the released model says of each image is computed before the first is sent: an answer with another label counts as
a failure, however fast it came, and so does a run without a single answer. What is sent, by how many clients and what
must hold is the scenario's (loadtest/scenarios/).
"""

import logging
import random
import socket
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import grpc
import grpc.experimental.gevent
from locust import FastHttpUser, LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.settings import Settings
from loadtest import preflight, report, scenario, verdict
from loadtest.kinds import GRPC, Kind
from loadtest.recorder import Recorder, Seen
from loadtest.requests import Request, prepare
from loadtest.scenario import Scenario, Stage

grpc.experimental.gevent.init_gevent()
gevent.get_hub().NOT_ERROR += (
    FashionMNISTError,
)  # whoever waits for the thread that raised it says it, without traceback

TIMEOUT_S = 10.0
PREPARE_S = 60.0
REPORT = "fashion_mnist"
"""The name of what we add to a worker's report, and of its message that it cannot send."""


class Run:
    """This process's part of the run: the scenario, the requests, and what came of them."""

    def __init__(self) -> None:
        self.scenario: Scenario | None = None
        self.requests: list[Request] = []
        self.recorder = Recorder()
        self._place = -1  # of the period that goes on, among all of the scenario's
        self._began: float | None = None  # second of Locust's in which the first answer was there
        self._over = False
        self.error: str | None = None
        """Why nothing can be sent: the run ends at once."""
        settings = Settings.from_environment()
        self.headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        self.grpc = ""
        self.credentials: grpc.ChannelCredentials | None = None

    def read(self, options: Any) -> Scenario:
        """The scenario that is asked for."""
        self.scenario = scenario.read(options.scenario).scaled(
            clients=options.most_clients or None, seconds=options.seconds or None
        )
        return self.scenario

    def tick(self, now: float) -> tuple[int, float] | None:
        """Clients at this second of the run, and how many may start a second; None at its end.

        The scenario begins with the first answer, or failure: until then requests are being written.
        """
        assert self.scenario is not None
        if self.error is not None:
            return None
        if self._began is None:
            if not self.recorder.seen.requests and now < PREPARE_S:
                return 1, 1
            self._began = now
        now -= self._began
        began, before = 0.0, 0
        for place, stage in enumerate(self.scenario.stages):
            if now < began + stage.ramp_s:
                self._enter(2 * place, stage, held=False)
                clients = before + (stage.clients - before) * (now - began) / stage.ramp_s
                return (0, 1) if self._over else (max(1, round(clients)), 1000)
            began += stage.ramp_s
            if now < began + stage.hold_s:
                self._enter(2 * place + 1, stage, held=True)
                return None if self._over else (stage.clients, 1000)
            began, before = began + stage.hold_s, stage.clients
        self.recorder.end()
        return None

    def _enter(self, place: int, stage: Stage, *, held: bool) -> None:
        if place == self._place:
            return
        self._place = place
        self.recorder.end()
        assert self.scenario is not None
        if self.scenario.until_saturation and self.recorder.periods:
            judged = verdict.judge(self.scenario, self.recorder.periods)
            self._over = bool(judged.stages) and not judged.stages[-1].held
        if not self._over:
            self.recorder.begin(stage, held=held)


run = Run()


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """What Locust does not know of."""
    group = parser.add_argument_group("Fashion-MNIST")
    group.add_argument("--scenario", default="steady", help=f"One of {', '.join(scenario.names())}, or a YAML file.")
    group.add_argument("--most-clients", type=int, default=0, help="Scale the scenario to so many clients at most.")
    group.add_argument("--seconds", type=float, default=0, help="Scale the scenario to so many seconds in all.")
    group.add_argument("--grpc", default="", help="HOST:PORT of gRPC; by default the host's, and the settings' port.")
    group.add_argument(
        "--results", default="loadtest/results", help="The folder of result.json, junit.xml, report.html."
    )


@events.init.add_listener
def choose_clients(environment: Environment, **_: Any) -> None:
    """Start clients of the protocols that the scenario's mix has, and no others."""
    if isinstance(environment.runner, WorkerRunner):
        return  # the master tells it
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(REPORT, end_by_worker)
    mix = run.read(environment.parsed_options).mix
    HTTPClient.weight = sum(parts for kind, parts in mix if not kind.grpc)
    GRPCClient.weight = sum(parts for kind, parts in mix if kind.grpc)
    environment.user_classes = [each for each in (HTTPClient, GRPCClient) if each.weight]


@events.test_start.add_listener
def prepare_requests(environment: Environment, **_: Any) -> None:
    """Write the requests and find out their labels; in each process that sends, before its first client starts."""
    options = environment.parsed_options
    assert options is not None
    run.error, run.requests = None, []
    try:
        kinds = [kind for kind, _ in run.read(options).mix]
        url = environment.host or ""
        run.grpc = options.grpc or preflight.grpc_address(url, Settings.from_environment().grpc_port)
        if not isinstance(environment.runner, MasterRunner):
            preflight.check_server(url, run.grpc, kinds)
            if any(kind.grpc for kind in kinds):
                run.credentials = preflight.credentials(url, run.grpc)
            # In a thread: the master takes a worker for dead that says nothing for three seconds.
            run.requests = gevent.get_hub().threadpool.apply(prepare, (kinds,))
    except Exception as error:  # Locust would log it, and go on without requests
        run.error = error.message if isinstance(error, FashionMNISTError) else f"{type(error).__name__}: {error}"
        logging.error("%s", run.error)
        if isinstance(environment.runner, WorkerRunner):
            environment.process_exit_code = 1
            environment.runner.send_message(REPORT, {"error": f"a worker on {socket.gethostname()}: {run.error}"})


def end_by_worker(msg: Any, **_: Any) -> None:
    """In the master: end the run, to which a worker cannot contribute."""
    run.error = msg.data["error"]
    logging.error("%s", run.error)


@events.report_to_master.add_listener
def send_what_was_seen(data: dict[str, Any], **_: Any) -> None:
    """In a worker: with each report, what was seen since the last."""
    data[REPORT] = run.recorder.take().to_report()


@events.worker_report.add_listener
def take_what_was_seen(data: dict[str, Any], **_: Any) -> None:
    """In the master."""
    if REPORT in data:
        run.recorder.seen.merge(Seen.from_report(data[REPORT]))


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Say whether the thresholds held, in files and by the exit status."""
    if isinstance(environment.runner, WorkerRunner) or run.scenario is None:
        return
    run.recorder.end()
    said = verdict.judge(run.scenario, run.recorder.periods, run.error)
    environment.process_exit_code = 0 if said.passed else 1
    assert environment.parsed_options is not None
    folder = Path(environment.parsed_options.results)
    print(report.as_text(said))
    verdict.write_json(said, folder / "result.json")
    verdict.write_junit(said, folder / "junit.xml")
    report.write(said, run.recorder.periods, folder / "report.html")


class Shape(LoadTestShape):
    """Clients over time, as the scenario has it."""

    def tick(self) -> tuple[int, float] | None:
        return run.tick(self.get_run_time())  # type: ignore[no-untyped-call]


def _check(request: Request, began: float, answer: bytes) -> str | None:
    """Record an answer that came with status 200; what is wrong with it, if anything is."""
    took_ms = 1e3 * (time.perf_counter() - began)
    try:
        labels = request.kind.read(answer)
    except (ValueError, KeyError, TypeError, IndexError):
        message = f"{request.kind.name}: no labels in {answer[:100]!r}"
        run.recorder.seen.failed(message)
        return message
    if labels != request.labels:
        place = next((i for i, pair in enumerate(zip(labels, request.labels, strict=False)) if pair[0] != pair[1]), 0)
        found = f"{labels[place]!r} for {request.labels[place]!r}" if labels else "none"
        message = f"{request.kind.name}: wrong label, {found}"
        if len(labels) != len(request.labels):
            message = f"{request.kind.name}: {len(labels)} labels for {len(request.labels)} images"
        run.recorder.seen.wrong(message)
        return message
    run.recorder.seen.right(request.kind.name, took_ms, request.kind.images)
    return None


class _Client:
    """What all clients have: a choice of requests, and their time to think."""

    grpc = False
    _mine: tuple[list[Request], list[float]]

    def choose(self) -> Request:
        """What is sent next. Raises StopUser where there is nothing to send, for which `Run.error` has the reason."""
        if not self._mine[0]:
            raise StopUser
        return random.choices(*self._mine)[0]

    def wait_time(self) -> float:
        """Seconds until the next request."""
        assert run.scenario is not None
        return random.uniform(*run.scenario.think_s)

    def on_start(self) -> None:
        """Find out what is to be sent."""
        mix = run.scenario.mix if run.scenario is not None else ()
        parts: dict[Kind, float] = {kind: share for kind, share in mix if kind.grpc == self.grpc}
        mine = [request for request in run.requests if request.kind in parts]
        each = {kind: sum(request.kind == kind for request in mine) for kind in parts}
        self._mine = mine, [parts[request.kind] / each[request.kind] for request in mine]


class HTTPClient(_Client, FastHttpUser):
    """A client over HTTP/1.1, with one connection that is kept."""

    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S

    @task
    def send(self) -> None:
        """Send one request."""
        request = self.choose()
        sent = request.sent
        began = time.perf_counter()
        with self.client.post(
            sent.path,
            data=sent.body,  # type: ignore[arg-type]
            headers={**sent.headers, **run.headers},
            name=request.kind.name,
            catch_response=True,
        ) as response:
            if response.status_code == 200:
                wrong = _check(request, began, response.content or b"")
            else:
                said = f"{request.kind.name}: status {response.status_code}"
                wrong = f"{said}: {(response.text or '')[:100]}"
                run.recorder.seen.failed(said)
            if wrong:
                response.failure(wrong)


class GRPCClient(_Client, User):
    """A client over gRPC, with a connection of its own."""

    grpc = True
    _call: Callable[..., bytes]

    def on_start(self) -> None:
        super().on_start()
        self._channel = preflight.open_channel(run.grpc, run.credentials)
        self._call = self._channel.unary_unary(GRPC)
        self._metadata = [(name.lower(), value) for name, value in run.headers.items()]

    def on_stop(self) -> None:
        """Hang up."""
        self._channel.close()

    @task
    def send(self) -> None:
        """Send one request."""
        request = self.choose()
        began, wrong, answer = time.perf_counter(), None, b""
        try:
            answer = self._call(request.sent.body, timeout=TIMEOUT_S, metadata=self._metadata)
            wrong = _check(request, began, answer)
        except grpc.RpcError as error:
            said = f"{request.kind.name}: {error.code().name}"
            wrong = f"{said}: {error.details()[:100]}"
            run.recorder.seen.failed(said)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=request.kind.name,
            response_time=1e3 * (time.perf_counter() - began),
            response_length=len(answer),
            exception=RuntimeError(wrong) if wrong else None,
            context={},
        )
