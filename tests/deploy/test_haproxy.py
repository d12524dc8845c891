"""HAProxy in front of several gateways: none of their deaths, upgrades and canaries costs a request."""

import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import grpc
import httpx
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST
from gateway.http.keys import editing
from gateway.process.worker import COUNT_S
from gateway.protocols import inference_pb2 as pb
from loadtest.kinds import native
from serving import processes
from serving.config import free_ports
from tests.support.command import COMMAND, gone, wait_until
from tests.support.grpc_calls import SERVICE, tensor
from tests.support.load import load
from tests.support.proxy import CONFIGURATION, FOLDER, Gateway, Proxy, program
from tests.support.versions import FIRST, named

ROOT = FOLDER.parents[1]
NEXT = "1.3-next"
"""A version that says what the released one says."""

NATIVE = native(FASHION_MNIST)


@pytest.fixture(scope="module")
def upgraded(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of version NEXT."""
    return named(model_store, tmp_path_factory.mktemp("versions") / NEXT, NEXT)


@pytest.fixture(scope="module")
def gateways(
    model_store: Path, upgraded: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Gateway]]:
    """Two of the released version, and the canary; ready before and after each test that leaves them so."""
    folder = tmp_path_factory.mktemp("gateways")
    found = {name: Gateway(folder / name) for name in ("GATEWAY_A", "GATEWAY_B", "GATEWAY_CANARY")}
    with ExitStack() as stack:
        for name, gateway in found.items():
            stack.callback(gateway.close)
            gateway.start(upgraded if name == "GATEWAY_CANARY" else model_store)
        for gateway in found.values():
            gateway.wait()
        yield found


@pytest.fixture(scope="module")
def proxy(gateways: dict[str, Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """In front of them, with a rate that nobody reaches."""
    with Proxy(tmp_path_factory.mktemp("proxy"), gateways).running() as running:
        for server in ("a", "b", "canary"):
            running.wait(server, up=True)
        yield running


@pytest.fixture(scope="module")
def labels(dataset: Dataset, model_store: Path) -> list[str]:
    """Of the first 400 test images."""
    found = open_engine(model_store, "onnx", "cpu").predict(dataset.test.images[:400]).argmax(axis=1)
    return [CLASSES[index] for index in found]


# The configuration


def test_haproxy_takes_the_configuration(tmp_path: Path) -> None:
    command = [program("haproxy"), "-c", "-f", str(CONFIGURATION)]
    environment = Proxy(tmp_path, {}).environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def said(directive: str) -> int:
    """The one value of a directive in the configuration, in bytes, seconds or milliseconds as it stands there."""
    (value,) = set(re.findall(rf"\b{directive} (\d+)", CONFIGURATION.read_text()))
    return int(value)


def test_times_and_sizes_fit_the_gateways_settings() -> None:
    settings = Settings()
    buffered = said("tune.bufsize")
    assert said("timeout http-request") == settings.receive_timeout_s + buffered // (64 * 1024)
    assert said("timeout client") == settings.receive_timeout_s
    assert said("timeout http-keep-alive") == settings.idle_timeout_s
    assert said("timeout server") > max(
        settings.engine_timeout_s, settings.shutdown_timeout_s, settings.response_timeout_s
    )
    assert said("hard-stop-after") > said("timeout server")
    # Longer heads reach the gateway, which refuses them in its own words.
    assert buffered > settings.max_header_bytes
    assert said("maxconn") <= settings.max_connections
    noticed_ms = said("inter") + said("fastinter") * (said("fall") - 1)
    assert noticed_ms < 1e3 * settings.drain_s, "a gateway that drains is noticed too late"


def test_its_own_errors_have_the_services_shape() -> None:
    def below(error: type[FashionMNISTError]) -> Iterator[type[FashionMNISTError]]:
        yield error
        for each in error.__subclasses__():
            yield from below(each)

    codes = {error.code for error in below(FashionMNISTError)}
    documents = [json.loads(text) for text in re.findall(r" string '(.*?)'", CONFIGURATION.read_text())]
    errors = [document["error"] for document in documents if isinstance(document["error"], dict)]
    assert len(errors) == 6
    assert all(set(error) == {"code", "message"} and error["code"] in codes for error in errors)


# What clients see


def opened(proxy: Proxy) -> grpc.Channel:
    """A channel over TLS."""
    return grpc.secure_channel(proxy.grpc, grpc.ssl_channel_credentials(proxy.ca.read_bytes()))


def infer(channel: grpc.Channel) -> Any:
    """The call that predicts."""
    return channel.unary_unary(
        f"{SERVICE}ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )


def label_of(channel: grpc.Channel, image: bytes) -> str:
    """The label of an image."""
    request = pb.ModelInferRequest(
        model_name="fashion_mnist",
        inputs=[tensor("UINT8", [1, 28, 28])],
        outputs=[{"name": "label"}],
        raw_input_contents=[image],
    )
    label: str = infer(channel)(request, timeout=20).raw_output_contents[0][4:].decode()
    return label


def test_tls_for_both_versions_of_http_and_for_grpc(proxy: Proxy, dataset: Dataset, labels: list[str]) -> None:
    image = dataset.test.images[0].tobytes()
    for http2 in (False, True):
        context = proxy.tls()
        context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
        address = ("127.0.0.1", httpx.URL(proxy.url).port or 0)
        with (
            socket.create_connection(address, 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.selected_alpn_protocol() == ("h2" if http2 else "http/1.1")
            assert connection.version() == "TLSv1.3"
    with proxy.client() as client:
        answer = client.post(NATIVE, content=image)
    assert answer.json()["predictions"][0]["label"] == labels[0]
    assert answer.headers["x-request-id"]
    with opened(proxy) as channel:
        assert label_of(channel, image) == labels[0]


def test_old_tls_is_refused(proxy: Proxy) -> None:
    context = proxy.tls()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", httpx.URL(proxy.url).port or 0), 10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_what_is_too_long_is_refused_in_the_gateways_words(proxy: Proxy) -> None:
    settings = Settings()
    with proxy.client() as client:
        body = client.post(NATIVE, content=bytes(settings.max_body_bytes + 1))
        head = client.get("/health/live", headers={"x-long": "x" * settings.max_header_bytes})
    assert (body.status_code, body.json()["error"]["code"]) == (413, "body_too_large")
    assert (head.status_code, head.json()["error"]["code"]) == (431, "head_too_large")


class Upstream(BaseHTTPRequestHandler):
    """In a gateway's place: it answers with the headers that came to it, or a status that it is told."""

    protocol_version = "HTTP/1.1"
    wbufsize = 2**16
    statuses: ClassVar[list[int]] = []
    """Of the next answers to a POST; with 0 it hangs up instead."""

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.statuses.pop(0) if self.statuses else 200
        if status:
            self._answer(status)
        self.close_connection = not status

    def _answer(self, status: int) -> None:
        content = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


RATE = 30
"""More than `wait_until` asks."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """In front of Upstream alone, with a low rate."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"127.0.0.1:{server.server_port}"
            with Proxy(tmp_path_factory.mktemp("limited"), {"GATEWAY_A": address}, RATE).running() as running:
                running.wait("b", up=False)
                yield running
        finally:
            server.shutdown()
            thread.join()


def until_refused(client: httpx.Client, path: str) -> httpx.Response:
    """The first answer that says 429, of requests as fast as they go."""
    for _ in range(20 * RATE):
        answer = client.post(path, content=b"image")
        if answer.status_code == 429:
            return answer
    raise AssertionError("never refused")


def test_what_goes_on_to_the_gateway(limited: Proxy) -> None:
    own = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-request-id": "mine",
        "authorization": "Bearer good",
    }
    with limited.client() as client:
        seen = client.post(NATIVE, content=b"image", headers={**own, "x-forwarded-for": "10.9.8.7"}).json()
    assert {name: seen[name] for name in own} == own
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "https")


@pytest.mark.parametrize("failures", [[503, 503, 503], [0, 0, 0]], ids=["says so", "hangs up"])
def test_what_a_gateway_does_not_answer_is_asked_again(limited: Proxy, failures: list[int]) -> None:
    Upstream.statuses[:] = failures
    body = bytes(said("tune.bufsize") - 4096)
    with limited.client() as client:
        assert client.post(NATIVE, content=body, headers={"authorization": "Bearer one"}).status_code == 200
    assert Upstream.statuses == []


def test_a_body_that_is_too_long_to_be_kept_is_lost_with_its_gateway(limited: Proxy) -> None:
    Upstream.statuses[:] = [0]
    body = bytes(said("tune.bufsize") + 1)
    with limited.client() as client:
        answer = client.post(NATIVE, content=body, headers={"authorization": "Bearer two"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "unavailable")


def test_each_client_has_its_rate(limited: Proxy) -> None:
    with limited.client() as client:
        refused = until_refused(client, NATIVE)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "overloaded"
        assert isinstance(until_refused(client, "/v2/models/fashion_mnist/infer").json()["error"], str)
        # Another client at the same address, told by its key.
        key = {"authorization": "Bearer good"}
        assert client.post(NATIVE, content=b"image", headers=key).status_code == 200
        wait_until(lambda: client.post(NATIVE, content=b"image").status_code == 200, "its turn again", 20)


def test_a_key_is_one_client_however_its_scheme_is_written(limited: Proxy) -> None:
    schemes = ["".join(letters) for letters in itertools.product(*((letter, letter.upper()) for letter in "bearer"))]
    with limited.client() as client:
        for _ in range(20 * RATE // len(schemes)):
            for scheme in schemes:
                sent = client.post(NATIVE, content=b"image", headers={"authorization": f"{scheme} spelled"})
                if sent.status_code == 429:
                    return
    raise AssertionError("never refused")


def test_grpc_is_refused_in_its_own_words(limited: Proxy) -> None:
    with opened(limited) as channel:
        calls = [infer(channel).future(pb.ModelInferRequest(), timeout=20) for _ in range(3 * RATE)]
        # The first ones wait for a gateway, which there is not, and end with the channel.
        error = calls[-1].exception()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "send it again" in error.details()


@pytest.fixture(scope="module")
def guarded(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that asks for keys, of which there is none."""
    folder = tmp_path_factory.mktemp("guarded")
    with editing(folder / "keys.json"):
        pass
    gateway = Gateway(folder / "gateway")
    with ExitStack() as stack:
        stack.callback(gateway.close)
        gateway.start(model_store, FASHION_MNIST_KEY_FILE=str(folder / "keys.json"))
        gateway.wait()
        yield gateway


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_keys_that_are_made_up_give_nobody_a_rate_of_his_own(guarded: Gateway, way: str, tmp_path: Path) -> None:
    seen = set()
    with (
        Proxy(tmp_path, {"GATEWAY_A": guarded}, RATE).running() as proxy,
        proxy.client() as client,
        opened(proxy) as channel,
    ):
        for number in range(10 * RATE):
            key = f"Bearer made-up-{number}"
            if way == "http":
                seen.add(client.post(NATIVE, content=b"image", headers={"authorization": key}).status_code)
            else:
                call = infer(channel).future(pb.ModelInferRequest(), metadata=[("authorization", key)], timeout=20)
                seen.add(call.exception().code())
            if len(seen) == 2:
                break
    assert seen == {
        "http": {401, 429},
        "grpc": {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED},
    }.get(way)


# What gateways do


def test_a_gateway_that_is_not_ready_is_left_out(
    proxy: Proxy, gateways: dict[str, Gateway], dataset: Dataset, labels: list[str]
) -> None:
    stopped = gateways["GATEWAY_B"]
    stopped.signal(signal.SIGSTOP)
    try:
        proxy.wait("b", up=False)
        assert not proxy.is_up("b", "grpc")
        with proxy.client() as client:
            answers = [client.post(NATIVE, content=image.tobytes()) for image in dataset.test.images[:20]]
        assert [answer.json()["predictions"][0]["label"] for answer in answers] == labels[:20]
    finally:
        stopped.signal(signal.SIGCONT)
    proxy.wait("b", up=True)


def test_an_operator_takes_a_gateway_out(proxy: Proxy) -> None:
    proxy.tell("set server http/b state drain")
    proxy.wait("b", up=False)
    assert not proxy.is_up("b", "grpc")
    proxy.tell("set server http/b state ready")
    proxy.wait("b", up=True)
    assert proxy.is_up("b", "grpc")


def test_the_canary_gets_its_share_and_loses_nothing(
    proxy: Proxy,
    gateways: dict[str, Gateway],
    upgraded: Path,
    dataset: Dataset,
    labels: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program("socat")
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.ca))
    canary = gateways["GATEWAY_CANARY"]

    stable = ("GATEWAY_A", "GATEWAY_B")

    def counted() -> dict[str, float]:
        return {name: gateway.answered() for name, gateway in gateways.items()}

    def answers_nothing(*names: str) -> None:
        """Wait until these gateways answer nothing any more, and the others hundreds. They count some moments late."""
        seen, since = counted(), time.monotonic()

        def still() -> bool:
            nonlocal seen, since
            now = counted()
            if any(now[name] != seen[name] for name in names):
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 2 * COUNT_S and sum(now.values()) > sum(seen.values()) + 200

        wait_until(still, f"no more answers of {names}", 20)

    with load(f"{proxy.url}{NATIVE}", dataset.test.images[:400], labels) as found:
        answers_nothing("GATEWAY_CANARY")
        before = counted()
        proxy.share(10)
        found.wait_for(2000)
        grown = {name: count - before[name] for name, count in counted().items()}
        share = 100 * grown["GATEWAY_CANARY"] / sum(grown.values())
        proxy.share(100)
        answers_nothing(*stable)
        proxy.share(0)
        answers_nothing("GATEWAY_CANARY")
        # A share is kept when HAProxy is reloaded.
        proxy.share(100)
        proxy.reload()
        answers_nothing(*stable)
        # Lost at the height of its share, the canary is stood in for.
        killed = canary.command.family()
        canary.signal(signal.SIGKILL)
        wait_until(lambda: gone(killed), "the canary's end", 10)
        found.wait_for(200)
        proxy.share(0)
    canary.start(upgraded)
    canary.wait()
    proxy.wait("canary", up=True)
    assert set(found.outcomes) == {"right"}, found.outcomes
    assert 5 < share < 15, "by chance, of 2000 requests"


@pytest.mark.parametrize("percent", ["", "-1", "101", "ten", "5; quit"])
def test_what_is_no_share_is_refused(proxy: Proxy, percent: str) -> None:
    command: list[str | Path] = [FOLDER / "canary", percent]
    done = subprocess.run(command, env=proxy.environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr[:21]) == (2, "usage: canary PERCENT")
    assert proxy.map.read_text() == "share 0\n"


@contextmanager
def calling(proxy: Proxy, image: bytes, label: str) -> Iterator[Counter[str]]:
    """A client of gRPC that asks all the time; what came of it."""
    outcomes: Counter[str] = Counter()
    stopped = threading.Event()

    def ask() -> None:
        with opened(proxy) as channel:
            while not stopped.wait(0.01):
                try:
                    outcomes["right" if label_of(channel, image) == label else "wrong"] += 1
                except grpc.RpcError as error:
                    outcomes[f"{error.code().name}: {error.details()}"] += 1

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(ask)
        try:
            yield outcomes
        finally:
            stopped.set()
            running.result(30)


def test_one_is_killed_and_one_upgraded_under_locusts_load(
    proxy: Proxy,
    gateways: dict[str, Gateway],
    model_store: Path,
    upgraded: Path,
    dataset: Dataset,
    labels: list[str],
    tmp_path: Path,
) -> None:
    """One master and two workers; HAProxy is reloaded, too."""
    a, b = gateways["GATEWAY_A"], gateways["GATEWAY_B"]
    mix = tmp_path / "mix.yaml"
    mix.write_text(
        "mix: {png: 4, raw: 4, raw x 64: 1, json: 1, oip: 1, v1: 1}\nthink_s: [0.01, 0.05]\n"
        "thresholds: {failures_percent: 0, wrong_labels: 0}\nstages: [{clients: 12, hold_s: 15}]\n"
    )
    (port,) = free_ports(1)
    master: list[str | Path] = [COMMAND, "loadtest", "--host", proxy.url, "--workers", "2", "--port", str(port)]
    master += ["--scenario", mix, "--results", tmp_path]
    worker: list[str | Path] = [COMMAND, "loadtest", "--join", "127.0.0.1", "--port", str(port)]
    with ExitStack() as stack:
        output = stack.enter_context((tmp_path / "said").open("wb"))
        before = a.answered() + b.answered()
        running = processes.start(master, os.environ, ROOT, output)
        stack.callback(processes.stop, running, 5)
        for _ in range(2):
            stack.callback(processes.stop, processes.start(worker, os.environ, ROOT, output), 5)
        outcomes = stack.enter_context(calling(proxy, dataset.test.images[0].tobytes(), labels[0]))

        def is_loaded() -> bool:
            return running.poll() is not None or a.answered() + b.answered() > before + outcomes["right"] + 50

        wait_until(is_loaded, "load", 60)

        killed = b.command.family()
        b.signal(signal.SIGKILL)
        wait_until(lambda: gone(killed), "its end", 10)
        proxy.wait("b", up=False)
        b.start(model_store)
        proxy.wait("b", up=True)

        assert a.command.end() == 0
        a.start(upgraded)
        proxy.wait("a", up=True)

        proxy.reload()
        wait_until(lambda: a.answered() > 50, "the new version's answers", 20)
        assert running.poll() is None, "the load ended too early to show anything"
        status = running.wait(timeout=60)
    text = (tmp_path / "said").read_text()
    assert status == 0, text[-3000:] + proxy.said()[-3000:]
    figures: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())["stages"][0]["figures"]
    assert figures["answered"] > 1000
    assert set(outcomes) == {"right"}, outcomes
    with proxy.client() as client:
        image = dataset.test.images[0].tobytes()
        versions = {client.post(NATIVE, content=image).json()["model_version"] for _ in range(20)}
    assert versions == {FIRST, NEXT}
