"""Traces: whose caller wants one gets one, from the socket to TorchServe's worker; nobody else pays for it."""

import asyncio
import functools
import itertools
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.observability.metrics import STAGES
from gateway.protocols import inference_pb2 as pb
from tests.support.collector import Collector, collecting
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.grpc_calls import SERVICE, Stub, tensor

IMAGE = bytes(784)
REQUEST = "POST /predictions/fashion_mnist"
CALLER = f"{7:016x}"
NUMBERS = itertools.count(1000)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module", params=["embedded", "torchserve"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[ServeCommand]:
    """A server that traces whose caller asks for it, and nobody else."""
    environment = {"FASHION_MNIST_TRACES_ENDPOINT": collector.url, "FASHION_MNIST_TRACES_PERCENT": "0"}
    with serve_command(tmp_path_factory.mktemp("traces"), "--engine", engine, **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


def new_trace() -> str:
    """An id that no other test has."""
    return f"{next(NUMBERS):032x}"


def traced(trace: str, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-0{int(sampled)}"}


def test_a_request_is_followed_to_the_engine(server: ServeCommand, engine: str, collector: Collector) -> None:
    trace = new_trace()
    headers = {**traced(trace), "x-request-id": "my-17"}
    response = httpx.post(server.url, content=IMAGE * 3, headers=headers, timeout=10)
    assert response.status_code == 200
    wait_until(lambda: bool(collector.find(REQUEST, trace)), "the request's span", 10)
    (request,) = collector.find(REQUEST, trace)
    assert response.headers["traceresponse"] == f"00-{trace}-{request.id}-01"
    assert (request.service, request.parent) == ("fashion-mnist-gateway", CALLER)
    assert request.attributes["fashion_mnist.request_id"] == "my-17"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["fashion_mnist.images"] == 3
    # A batch of its images alone stands below it.
    wait_until(lambda: len(collector.find("engine", trace)) == 2, "the batch's span, and the stage's", 10)
    (batch,) = [span for span in collector.find("engine", trace) if span.links]
    assert (batch.parent, batch.links) == (request.id, (request.id,))
    assert request.links == (batch.id,)
    stages = [span for span in collector.spans if span.parent == request.id and not span.links]
    assert [span.name for span in stages] == list(STAGES)
    assert sum(span.seconds for span in stages) == pytest.approx(request.seconds, abs=1e-5)
    if engine == "torchserve":
        wait_until(lambda: bool(collector.find("handle", trace)), "the worker's span", 10)
        (handled,) = collector.find("handle", trace)
        assert (handled.service, handled.parent) == ("fashion-mnist-worker", batch.id)
        assert handled.attributes["fashion_mnist.images"] == 3
        assert 0 < handled.seconds < batch.seconds


def test_a_batch_of_many_links_to_each(server: ServeCommand, collector: Collector) -> None:
    traces = {new_trace() for _ in range(40)}

    async def send() -> list[int]:
        async with httpx.AsyncClient(timeout=10) as client:
            sent = [client.post(server.url, content=IMAGE, headers=traced(trace)) for trace in traces]
            return [response.status_code for response in await asyncio.gather(*sent)]

    assert set(asyncio.run(send())) == {200}

    def requests() -> set[str]:
        return {span.id for span in collector.find(REQUEST) if span.trace in traces}

    wait_until(lambda: len(requests()) == len(traces), "all requests", 10)
    found = requests()

    def linked() -> list[str]:
        return [link for span in collector.find("engine") for link in span.links if link in found]

    wait_until(lambda: len(linked()) == len(traces), "all batches", 10)
    assert set(linked()) == found
    together = [span for span in collector.find("engine") if len(span.links) > 1 and set(span.links) <= found]
    assert together
    # It belongs to none of them.
    assert all(span.parent == "" and span.trace not in traces for span in together)


def test_a_client_that_leaves_is_traced_too(server: ServeCommand, collector: Collector) -> None:
    traces = [new_trace() for _ in range(10)]
    address = urlsplit(server.url)
    for trace in traces:
        head = f"POST {address.path} HTTP/1.1\r\nHost: x\r\ntraceparent: {traced(trace)['traceparent']}\r\n"
        with socket.create_connection((address.hostname, address.port), 10) as connection:
            connection.sendall(f"{head}Content-Length: {len(IMAGE)}\r\n\r\n".encode() + IMAGE)
    for trace in traces:
        wait_until(functools.partial(collector.find, REQUEST, trace), "its span", 10)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        traced(f"{5:032x}", sampled=False),
        {"traceparent": "00-zz-7-01"},
        {"traceparent": "x" * 1000},
        {"traceparent": f"00-{0:032x}-{0:016x}-01", "tracestate": "=,=" * 99},
    ],
    ids=["nothing", "no", "malformed", "long", "zeros"],
)
def test_who_does_not_ask_is_not_traced(server: ServeCommand, collector: Collector, headers: dict[str, str]) -> None:
    response = httpx.post(server.url, content=IMAGE, headers={"x-request-id": "none", **headers}, timeout=10)
    assert response.status_code == 200
    assert "traceresponse" not in response.headers
    # One that comes later arrives, and that one has not.
    later = new_trace()
    httpx.post(server.url, content=IMAGE, headers=traced(later), timeout=10)
    wait_until(lambda: bool(collector.find(REQUEST, later)), "a later span", 10)
    assert not [span for span in collector.spans if span.attributes.get("fashion_mnist.request_id") == "none"]


def test_other_protocols_are_traced_too(server: ServeCommand, collector: Collector) -> None:
    by_http, by_grpc = new_trace(), new_trace()
    path = "/v1/models/fashion_mnist:predict"
    url = server.url.replace("/predictions/fashion_mnist", path)
    body = {"instances": [[[0] * 28] * 28]}
    assert httpx.post(url, json=body, headers=traced(by_http), timeout=10).status_code == 200
    stub = Stub(server)
    with stub.channel:
        inputs = [tensor("UINT8", [1, 28, 28])]
        message = pb.ModelInferRequest(model_name="fashion_mnist", inputs=inputs, raw_input_contents=[IMAGE])
        stub("ModelInfer", message, metadata=list(traced(by_grpc).items()))
    for trace, name in ((by_http, f"POST {path}"), (by_grpc, f"POST {SERVICE}ModelInfer")):
        wait_until(functools.partial(collector.find, name, trace), name, 10)
        (request,) = collector.find(name, trace)
        assert request.parent == CALLER
        assert request.attributes["fashion_mnist.images"] == 1


def test_a_refusal_is_traced_too(server: ServeCommand, collector: Collector) -> None:
    trace = new_trace()
    httpx.post(server.url, content=IMAGE[1:], headers=traced(trace), timeout=10)
    wait_until(lambda: bool(collector.find(REQUEST, trace)), "its span", 10)
    (request,) = collector.find(REQUEST, trace)
    assert request.attributes["http.response.status_code"] == 400
    assert request.attributes["error.type"] == "bad_length"
    assert not request.failed  # the client's fault


def test_a_share_of_the_others_is_traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> None:
    environment = {"FASHION_MNIST_TRACES_ENDPOINT": collector.url, "FASHION_MNIST_TRACES_PERCENT": "100"}
    with serve_command(tmp_path_factory.mktemp("all"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        found = httpx.post(command.url, content=IMAGE, timeout=10).headers["traceresponse"]
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", found)
        # What is left is sent before it ends.
        assert command.end() == 0
    assert collector.find(REQUEST, found.split("-")[1])


def test_a_collector_that_is_not_there_is_no_harm(tmp_path_factory: pytest.TempPathFactory) -> None:
    environment = {"FASHION_MNIST_TRACES_ENDPOINT": "http://127.0.0.1:9", "FASHION_MNIST_TRACES_PERCENT": "100"}
    with serve_command(tmp_path_factory.mktemp("nowhere"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        for _ in range(50):
            assert httpx.post(command.url, content=IMAGE, timeout=10).status_code == 200
        assert command.end(deadline_s=20) == 0


def test_without_traces_nothing_of_them_is_loaded() -> None:
    program = "import sys, gateway.process.worker, gateway.app, handlers.worker; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
