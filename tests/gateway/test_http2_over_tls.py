"""HTTP/2: the same answers as by HTTP/1.1, many at once; and clients that play foul with it."""

import asyncio
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hpack
import httpx
import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, PriorityFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_mnist.classes import CLASSES
from fashion_mnist.dataset import Dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import CANARY
from tests.gateway.command import ServeCommand, serve_command, wait_until
from tests.gateway.test_keys import add

IMAGE = bytes(784)
LARGE = bytes(784 * 2000)  # its answer is longer than any window
PATH = "/predictions/fashion_mnist"
NONE: dict[str, str] = {}


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ca: trustme.CA) -> Iterator[ServeCommand]:
    """A server that speaks TLS, with limits that are small enough to be reached."""
    folder = tmp_path_factory.mktemp("h2")
    small = {"FASHION_MNIST_RECEIVE_TIMEOUT_S": "1", "FASHION_MNIST_MAX_BODY_BYTES": "2000000"}
    with serve_command(folder, "--engine", "embedded", **environment_of(folder, ca), **small) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


def environment_of(folder: Path, ca: trustme.CA) -> dict[str, str]:
    """The settings of a server whose certificate lies in this folder from now on."""
    pem = folder / "server.pem"
    ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    return {"FASHION_MNIST_TLS_CERTIFICATE": str(pem), "FASHION_MNIST_TLS_KEY": str(pem)}


@pytest.fixture(scope="module")
def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture
def client(trusting: ssl.SSLContext) -> Iterator[httpx.Client]:
    with httpx.Client(http2=True, verify=trusting, timeout=20) as client:
        yield client


def answers(command: ServeCommand, client: httpx.Client, model_store: Path) -> bool:
    """Whether it still gives the canary its label."""
    response = client.post(command.url, content=(model_store / CANARY[0]).read_bytes())
    return bool(response.json()["predictions"][0]["label"] == CANARY[1])


class TestAnswers:
    def test_are_those_of_http_1(self, server: ServeCommand, trusting: ssl.SSLContext, client: httpx.Client) -> None:
        with httpx.Client(http2=False, verify=trusting, timeout=20) as other:
            for method, path, content, headers in (
                ("POST", PATH, IMAGE, {}),
                ("POST", f"{PATH}?top_k=2", IMAGE * 3, {}),
                ("POST", PATH, LARGE, {}),
                ("POST", PATH, IMAGE, {"accept": "application/octet-stream"}),
                ("POST", PATH, IMAGE[1:], {}),
                ("POST", PATH, b"", {}),
                ("POST", PATH, bytes(3_000_000), {}),
                ("GET", PATH, b"", {}),
                ("GET", "/health/ready", b"", {}),
                ("HEAD", "/health/ready", b"", {}),
                ("GET", "/nothing", b"", {}),
            ):
                url = server.url.replace(PATH, path)
                two, one = (
                    which.request(method, url, content=content, headers={"x-request-id": "7", **headers})
                    for which in (client, other)
                )
                assert (two.http_version, one.http_version) == ("HTTP/2", "HTTP/1.1")
                assert (two.status_code, two.content) == (one.status_code, one.content)
                differ = {"date", "server-timing", "connection"}
                assert {k: v for k, v in two.headers.items() if k not in differ} == {
                    k: v for k, v in one.headers.items() if k not in differ
                }

    def test_to_many_at_once_are_each_ones_own(
        self, server: ServeCommand, trusting: ssl.SSLContext, dataset: Dataset, model_store: Path
    ) -> None:
        images = dataset.test.images[:400]
        expected = open_engine(model_store, "onnx", "cpu").predict(images).argmax(axis=1)

        async def send_all() -> list[str]:
            limits = httpx.Limits(max_connections=1)
            async with httpx.AsyncClient(http2=True, verify=trusting, timeout=20, limits=limits) as client:
                sent = (client.post(server.url, content=image.tobytes()) for image in images)
                return [answer.json()["predictions"][0]["label"] for answer in await asyncio.gather(*sent)]

        assert asyncio.run(send_all()) == [CLASSES[index] for index in expected]

    def test_reach_curl(self, server: ServeCommand, model_store: Path) -> None:
        command = ["curl", "-s", "--http2", "--cacert", str(server.output.parent / "ca.pem"), "-w", "%{http_version}"]
        command += ["-T", str(model_store / CANARY[0]), server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        assert f'"label": "{CANARY[1]}"' in done.stdout
        assert done.stdout.endswith("2")


class Raw:
    """An HTTP/2 client that does what it is told."""

    def __init__(self, command: ServeCommand, window: int | None = None) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", urlsplit(command.url).port or 0), 10)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=False))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, stream: int, body: bytes = b"", headers: dict[str, str] = NONE, *, end: bool = True) -> None:
        head = {":method": "POST", ":path": PATH, ":scheme": "https", ":authority": "x", **headers}
        self.h2.send_headers(stream, list(head.items()), end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)

    def events(self, until: type[Event] | tuple[type[Event], ...], *, acknowledge: bool = True) -> list[Event]:
        """What comes, up to the first of a kind, or the end of the connection."""
        found: list[Event] = []
        while not any(isinstance(event, until) for event in found):
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                break
            if not data:
                break
            for event in self.h2.receive_data(data):
                found.append(event)
                if acknowledge and isinstance(event, DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if not any(isinstance(event, ConnectionTerminated) for event in found):
                self.flush()
        return found

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer, when it is whole."""
        events = self.events(StreamEnded)
        (status,) = [status_of(event) for event in events if isinstance(event, ResponseReceived)]
        return status, b"".join(event.data for event in events if isinstance(event, DataReceived))


def status_of(response: ResponseReceived) -> int:
    return int(dict(response.headers)[b":status"])


@pytest.fixture
def raw(server: ServeCommand) -> Iterator[Raw]:
    with Raw(server) as connection:
        yield connection


def code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


class TestFoulPlay:
    def test_a_body_that_does_not_come(self, raw: Raw) -> None:
        raw.ask(1, IMAGE[:10], end=False)
        raw.flush()
        status, body = raw.answer()
        assert (status, code(body)) == (408, "request_timeout")

    def test_a_long_body_is_refused_at_its_beginning_and_the_connection_goes_on(self, raw: Raw) -> None:
        raw.ask(1, b"", {"content-length": "3000000"}, end=False)
        raw.flush()
        events = raw.events(StreamReset)
        assert [status_of(event) for event in events if isinstance(event, ResponseReceived)] == [413]
        (reset,) = [event for event in events if isinstance(event, StreamReset)]
        assert reset.error_code == ErrorCodes.NO_ERROR
        raw.ask(3, IMAGE)
        raw.flush()
        assert raw.answer()[0] == 200

    def test_a_body_of_another_length_than_promised(self, raw: Raw) -> None:
        raw.h2.config.validate_outbound_headers = False
        raw.ask(1, IMAGE, {"content-length": "783"})
        raw.flush()
        assert any(isinstance(event, ConnectionTerminated) for event in raw.events(ConnectionTerminated))

    def test_endless_headers(self, raw: Raw) -> None:
        raw.ask(1, b"", {f"x-{number}": "y" * 1000 for number in range(30)})
        raw.flush()
        assert any(isinstance(event, ConnectionTerminated) for event in raw.events(ConnectionTerminated))

    def test_requests_that_are_taken_back(
        self, raw: Raw, server: ServeCommand, client: httpx.Client, model_store: Path
    ) -> None:
        """At first that is a client's right; a flood of them ends its connection."""
        for stream in range(1, 101, 2):
            raw.ask(stream, IMAGE, end=False)
            raw.h2.reset_stream(stream, ErrorCodes.CANCEL)
        raw.ask(101, IMAGE)
        raw.flush()
        assert raw.answer()[0] == 200
        for stream in range(103, 803, 2):
            raw.ask(stream, IMAGE, end=False)
            raw.h2.reset_stream(stream, ErrorCodes.CANCEL)
        raw.flush()
        (end,) = [event for event in raw.events(ConnectionTerminated) if isinstance(event, ConnectionTerminated)]
        assert end.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert answers(server, client, model_store)

    @pytest.mark.parametrize(
        "flood",
        [
            PingFrame(0, bytes(8)).serialize() * 1500,
            SettingsFrame(0).serialize() * 150,
            SettingsFrame(0).serialize()[:2] + b"\xc6" + SettingsFrame(0).serialize()[3:] + bytes(198),
            PriorityFrame(1).serialize() * 1500,
            WindowUpdateFrame(1, 1).serialize() * 1500,
            DataFrame(1).serialize() * 1500,
            DataFrame(1, b"a").serialize() * 1500,
        ],
        ids=["pings", "settings", "entries", "priorities", "windows", "no data", "hardly any data"],
    )
    def test_a_flood_of_what_is_no_request(
        self, raw: Raw, server: ServeCommand, client: httpx.Client, model_store: Path, flood: bytes
    ) -> None:
        raw.ask(1, IMAGE)
        raw.ask(3, end=False)
        raw.flush()
        assert raw.answer()[0] == 200  # so that it is a flood on a stream that is closed, too
        raw.socket.sendall(flood)
        (end,) = [event for event in raw.events(ConnectionTerminated) if isinstance(event, ConnectionTerminated)]
        assert end.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert answers(server, client, model_store)

    def test_a_flood_of_heads_that_take_long_to_unpack(
        self, raw: Raw, server: ServeCommand, client: httpx.Client, model_store: Path
    ) -> None:
        fields = [(":method", "POST"), (":path", PATH), (":scheme", "https"), (":authority", "x")]
        head = hpack.Encoder().encode([*fields, hpack.NeverIndexedHeaderTuple("a", "a" * 15_000)], huffman=True)
        heads = [HeadersFrame(stream, head, flags=["END_HEADERS"]) for stream in range(1, 241, 2)]
        raw.socket.sendall(b"".join(frame.serialize() for frame in heads))
        (end,) = [event for event in raw.events(ConnectionTerminated) if isinstance(event, ConnectionTerminated)]
        assert end.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert answers(server, client, model_store)

    def test_a_body_in_many_small_parts_is_no_flood(self, raw: Raw) -> None:
        """As a form of many files comes: what stands around each file is a few bytes."""
        raw.ask(1, end=False)
        for _ in range(1000):
            raw.h2.send_data(1, bytes(780))
            raw.h2.send_data(1, bytes(2))
            raw.h2.send_data(1, bytes(2))
            if raw.h2.local_flow_control_window(1) < 1000:
                raw.flush()
                raw.events(WindowUpdated)
        raw.h2.end_stream(1)
        raw.flush()
        status, body = raw.answer()
        assert (status, len(json.loads(body)["predictions"])) == (200, 1000)

    def test_half_a_head(self, raw: Raw, server: ServeCommand, client: httpx.Client, model_store: Path) -> None:
        raw.ask(1, IMAGE[:3], end=False)
        raw.flush()
        raw.socket.sendall(HeadersFrame(3, raw.h2.encoder.encode([(":method", "POST")])).serialize())
        assert any(isinstance(event, ConnectionTerminated) for event in raw.events(ConnectionTerminated))
        assert answers(server, client, model_store)

    def test_an_answer_that_is_not_read(self, server: ServeCommand) -> None:
        with Raw(server, window=100) as raw:
            raw.ask(1, IMAGE)
            raw.flush()
            events = raw.events(StreamReset, acknowledge=False)
        assert sum(len(event.data) for event in events if isinstance(event, DataReceived)) == 100
        assert any(isinstance(event, StreamReset) for event in events)

    def test_an_answer_that_is_read_slowly(self, server: ServeCommand) -> None:
        with Raw(server, window=100) as raw:
            raw.ask(1, IMAGE)
            raw.flush()
            status, body = raw.answer()
        assert status == 200
        assert len(json.loads(body)["predictions"]) == 1

    def test_more_requests_at_once_than_are_told(self, raw: Raw) -> None:
        raw.h2.remote_settings.max_concurrent_streams = 1000
        for stream in range(1, 401, 2):
            raw.ask(stream, IMAGE[:1], end=False)
        raw.flush()
        assert any(isinstance(event, ConnectionTerminated) for event in raw.events(ConnectionTerminated))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=300), st.booleans())
    def test_noise(self, server: ServeCommand, noise: bytes, begun: bool) -> None:
        with Raw(server) as raw:
            if begun:
                raw.ask(1, IMAGE[:3], end=False)
                raw.flush()
            raw.socket.sendall(noise)
        with Raw(server) as raw:
            raw.ask(1, IMAGE)
            raw.flush()
            assert raw.answer()[0] == 200

    def test_who_reads_a_byte_now_and_then_is_dropped(self, server: ServeCommand) -> None:
        with Raw(server, window=0) as raw:
            raw.ask(1, IMAGE * 20)
            raw.flush()
            raw.events(ResponseReceived)
            found: list[Event] = []
            for _ in range(1000):
                raw.h2.increment_flow_control_window(1, 1)
                raw.flush()
                found = raw.events((DataReceived, StreamReset), acknowledge=False)
                if any(isinstance(event, StreamReset) for event in found):
                    break
                threading.Event().wait(0.02)
            assert any(isinstance(event, StreamReset) for event in found)

    def test_nothing_is_kept_of_those_who_went(
        self, server: ServeCommand, client: httpx.Client, model_store: Path
    ) -> None:
        with Raw(server) as raw:
            raw.ask(1, bytes(10_000), end=False)
            raw.flush()
            wait_until(lambda: gauge(server, client, "waiting_bytes") >= 10_000, "the body", 10)
        wait_until(lambda: gauge(server, client, "waiting_bytes") == 0, "nothing", 10)
        assert answers(server, client, model_store)


def test_keys_are_asked_for(tmp_path: Path, ca: trustme.CA, client: httpx.Client) -> None:
    key, _ = add(tmp_path / "keys.json")
    environment = environment_of(tmp_path, ca) | {"FASHION_MNIST_KEY_FILE": str(tmp_path / "keys.json")}
    with serve_command(tmp_path, "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        refused = client.post(command.url, content=IMAGE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == 'Bearer realm="fashion_mnist"'
        assert client.get(command.url.replace(PATH, "/health/ready")).status_code == 200
        answered = client.post(command.url, content=IMAGE, headers={"authorization": f"Bearer {key}"})
        assert (answered.status_code, answered.http_version) == (200, "HTTP/2")


def gauge(server: ServeCommand, client: httpx.Client, name: str) -> float:
    text = client.get(f"https://127.0.0.1:{server.state().admin_port}/metrics").text
    return float(text.partition(f"\nfashion_mnist_{name} ")[2].partition("\n")[0])


def test_what_has_begun_is_answered_while_it_drains(tmp_path: Path, ca: trustme.CA, client: httpx.Client) -> None:
    environment = environment_of(tmp_path, ca)
    body = tmp_path / "body"
    body.write_bytes(IMAGE * 4)
    with serve_command(tmp_path, "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        upload = ["curl", "-sS", "--http2", "--cacert", str(tmp_path / "ca.pem"), "--limit-rate", "1500"]
        upload += ["-w", "%{http_code}", "-o", "/dev/null", "-T", str(body), command.url]
        with subprocess.Popen(upload, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_until(lambda: gauge(command, client, "connections") > 0, "a connection", 10)
            assert command.end() == 0
            out, err = process.communicate(timeout=20)
    assert (out, err) == (b"200", b"")
