"""What clients of gRPC may cost: slow, hostile and broken ones harm nobody else, and say nothing in our log."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import grpc
import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.grpc_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOODS,
    GOAWAY,
    HEADERS,
    INFER,
    INITIAL_WINDOW,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    answers,
    block,
    call,
    connected,
    head,
    infer,
    literal,
    message,
)
from tests.support.mutations import Corpus, damaged, many

MAX_BUFFERED_BYTES = 400_000
DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 4, 8


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """A gateway whose limits are small enough to be reached."""
    small = {"RECEIVE_TIMEOUT_S": "1", "IDLE_TIMEOUT_S": "2", "MAX_BODY_BYTES": "100000", "MAX_HEADER_BYTES": "4096"}
    small |= {"MAX_CONNECTIONS": "50", "MAX_BUFFERED_BYTES": str(MAX_BUFFERED_BYTES)}
    environment = {f"FASHION_MNIST_{name}": value for name, value in small.items()}
    with serve_command(tmp_path_factory.mktemp("strict"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        started = command.said()
        yield command
        assert command.said() == started, "clients have written into the log"


@pytest.fixture
def port(strict: ServeCommand) -> int:
    """Where it serves gRPC."""
    return strict.state().grpc_port


def waiting_bytes(strict: ServeCommand) -> float:
    page = httpx.get(f"http://127.0.0.1:{strict.state().admin_port}/metrics", timeout=10).text
    (line,) = [line for line in page.splitlines() if line.startswith("serving_buffered_bytes ")]
    return float(line.split()[1])


@pytest.mark.parametrize("name", FLOODS)
def test_others_are_answered_during_a_flood(port: int, name: str) -> None:
    flood = b"".join(frame.to_bytes() for frame in FLOODS[name](20_000))
    with connected(port) as client:
        client.socket.settimeout(1)
        # It may be stopped, by a closed connection or one that is not read any more.
        with contextlib.suppress(TimeoutError, ConnectionError):
            client.socket.sendall(flood)
        assert answers(port)
    assert answers(port)


def test_a_flood_of_pings_ends_the_connection(port: int) -> None:
    with connected(port) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.send(Frame(PING, 0, 0, bytes(8)))
        assert int.from_bytes(client.read_until(GOAWAY).payload[4:8], "big") == ENHANCE_YOUR_CALM
        assert client.closed()


def test_no_more_calls_run_at_once_on_a_connection_than_is_allowed(port: int) -> None:
    with connected(port) as client:
        assert client.settings[3] == 256  # SETTINGS_MAX_CONCURRENT_STREAMS


@pytest.mark.parametrize("fields", [60, 3000])
def test_metadata_beyond_the_limit_end_the_call(port: int, fields: int) -> None:
    more = b"".join(literal(b"header-%d" % place, b"x" * 100) for place in range(fields))
    parts = [(block() + more)[at : at + 16_000] for at in range(0, len(block() + more), 16_000)]
    frames = [Frame(HEADERS if not place else CONTINUATION, 0, 1, part) for place, part in enumerate(parts)]
    with connected(port) as client:
        client.send(*frames[:-1], frames[-1]._replace(flags=END_HEADERS))
        client.send(Frame(DATA, END_STREAM, 1, message(infer())))
        ended = b""
        while (frame := client.read()) is not None:
            ended += frame.payload if frame.kind in (HEADERS, RST_STREAM, GOAWAY) else b""
            if frame.kind in (RST_STREAM, GOAWAY) or (frame.kind == HEADERS and frame.flags & END_STREAM):
                break
        assert b"grpc-status\x010" not in ended
    assert answers(port)


def test_a_message_beyond_the_limit_is_refused(port: int) -> None:
    with connected(port) as client:
        client.send(*call(1, bytes(120_000))[:-1])
        assert client.status() == RESOURCE_EXHAUSTED


def test_a_message_that_unpacks_beyond_the_limit_is_refused(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(INFER)(bytes(50_000_000), compression=grpc.Compression.Gzip, timeout=10)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answers(port)


def test_a_message_that_does_not_arrive_is_refused_in_time(strict: ServeCommand, port: int) -> None:
    with connected(port) as client:
        client.send(*call(1, infer(50))[:-1])
        assert client.status() == DEADLINE_EXCEEDED
    wait_until(lambda: waiting_bytes(strict) == 0, "what it took is free", 5)


def test_a_call_without_a_message_is_refused(port: int) -> None:
    with connected(port) as client:
        client.send(head(1)._replace(flags=END_HEADERS | END_STREAM))
        assert client.status() == 3


def test_stalled_messages_leave_room_for_others(strict: ServeCommand, port: int) -> None:
    """Each counts as the longest; they may have half of all room, and those beyond are refused."""
    with connected(port) as client:
        for stream in range(1, 21, 2):
            client.send(*call(stream, infer(50))[:-1])
        assert client.status() == RESOURCE_EXHAUSTED
        wait_until(lambda: waiting_bytes(strict) <= MAX_BUFFERED_BYTES / 2, "those beyond are forgotten", 10)
        assert answers(port, 120)
        assert httpx.post(strict.url, content=bytes(784 * 120), timeout=10).status_code == 200
    wait_until(lambda: waiting_bytes(strict) == 0, "what they took is free", 5)


def test_clients_that_do_not_read_their_answers_leave_others_alone(strict: ServeCommand, port: int) -> None:
    with connected(port, (INITIAL_WINDOW, 0)) as slow:
        for stream in range(1, 41, 2):
            slow.send(*call(stream, infer(120)))
        slow.read_until(HEADERS)
        wait_until(lambda: waiting_bytes(strict) < 120 * 784, "their messages are read", 10)
        assert answers(port, 120)
    wait_until(lambda: waiting_bytes(strict) == 0, "their answers are dropped", 5)


def test_a_client_that_answers_no_ping_is_disconnected(port: int) -> None:
    with connected(port) as client:
        client.send(head(1))
        received = b"x"
        while received:
            received = client.socket.recv(65536)


def test_half_a_head_ends_the_connection(port: int) -> None:
    with connected(port) as client:
        client.send(Frame(HEADERS, 0, 1, block()[:20]))
        assert client.closed()


def test_a_connection_without_calls_is_closed(port: int) -> None:
    with connected(port) as client:
        assert client.read_until(GOAWAY)
        assert client.closed()


def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        while connection.recv(4096):
            continue


def test_connections_beyond_the_limit_are_refused(port: int) -> None:
    connections = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(50 + 20)]
    try:
        time_out = time.monotonic() + 10
        closed = 0
        for connection in connections:
            connection.settimeout(0.2)
            try:
                while connection.recv(4096):
                    continue
                closed += 1
            except TimeoutError:
                continue
            except ConnectionError:
                closed += 1
            assert time.monotonic() < time_out + 20
        assert closed >= 20
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: _answers(port), "room for others", 10)


def _answers(port: int) -> bool:
    try:
        return answers(port)
    except grpc.RpcError:
        return False


def test_a_path_that_is_not_utf_8_harms_nobody_else(port: int) -> None:
    path = block("/inference.GRPCInferenceService/ModelInfeR").replace(b"InfeR", b"Infe\xaf")
    with connected(port) as client:
        client.send(Frame(HEADERS, END_HEADERS | END_STREAM, 1, path))
        assert client.status() != 0
        client.send(*call(3, infer()))
        assert client.status() == 0
    assert answers(port)


def test_a_client_of_http_1_gets_no_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := connection.recv(4096):
            received += data
    assert b"HTTP/1" not in received


def test_a_message_in_tiny_parts_takes_little_room(strict: ServeCommand, port: int) -> None:
    gateway: psutil.Process = strict.gateway()
    with connected(port) as client:
        client.send(head(1), Frame(DATA, 0, 1, message(bytes(90_000))[:5]))
        before = gateway.memory_info().rss
        client.socket.sendall(Frame(DATA, 0, 1, b"\0\0").to_bytes() * 30_000)
        assert client.status() in (DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED)
        assert gateway.memory_info().rss - before < 30 * 2**20


GOOD = Corpus(
    [
        b"".join(frame.to_bytes() for frame in [*call(1, infer()), *call(3, infer())]),
        b"".join(
            frame.to_bytes()
            for frame in [
                Frame(PING, 0, 0, bytes(8)),
                Frame(HEADERS, 0, 1, block()[:9]),
                Frame(CONTINUATION, END_HEADERS, 1, block()[9:]),
                Frame(SETTINGS, 0, 0, struct.pack(">HL", INITIAL_WINDOW, 100)),
                Frame(DATA, END_STREAM, 1, message(infer())),
                Frame(WINDOW_UPDATE, 0, 1, b"\0\0\xff\0"),
                Frame(RST_STREAM, 0, 1, bytes(4)),
            ]
        ),
    ]
)


@hypothesis_settings(many, max_examples=60)
@given(st.lists(damaged(GOOD), min_size=5, max_size=5).map(Corpus))
def test_damaged_frames_harm_nobody_else(port: int, sent: Corpus) -> None:
    for content in sent:
        with connected(port) as client:
            client.socket.sendall(content)
    assert answers(port)


def test_nothing_is_counted_that_is_no_more(strict: ServeCommand) -> None:
    """After all that."""
    wait_until(lambda: waiting_bytes(strict) == 0, "no bytes wait", 5)
