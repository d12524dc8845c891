"""gRPC's door: HTTP/2 that is odd, broken, slow or hostile, sent as frames."""

import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hpack
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.http2 import literal
from gateway.protocols import inference_pb2 as pb
from tests.gateway.command import ServeCommand, serve_command, wait_until
from tests.gateway.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Answer,
    Client,
    Frame,
    block,
    call,
    connected,
    message,
)
from tests.gateway.mutations import Corpus, damaged, many

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = 1, 3, 5, 6, 7
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11
INITIAL_WINDOW = 4


def infer(images: int = 1) -> bytes:
    """A request for so many empty images."""
    request: bytes = pb.ModelInferRequest(
        model_name="fashion_mnist",
        inputs=[{"name": "images", "datatype": "UINT8", "shape": [images, 28, 28]}],
        outputs=[{"name": "probabilities"}],
        raw_input_contents=[bytes(784 * images)],
    ).SerializeToString()
    return request


@pytest.fixture(scope="module")
def port(embedded: ServeCommand) -> int:
    """Where the gateway speaks gRPC."""
    return embedded.state().grpc_port


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A gateway whose limits are small enough to be reached."""
    small = {"RECEIVE_TIMEOUT_S": "1", "IDLE_TIMEOUT_S": "2", "MAX_BODY_BYTES": "100000", "MAX_HEAD_BYTES": "4096"}
    small |= {"MAX_CONNECTIONS": "50", "MAX_WAITING_BYTES": "200000"}
    environment = {f"FASHION_MNIST_{name}": value for name, value in small.items()}
    with serve_command(tmp_path_factory.mktemp("strict"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        yield command.state().grpc_port


def is_right(answer: Answer, images: int = 1) -> bool:
    if answer.headers.get("grpc-status") != "0" or int.from_bytes(answer.body[1:5], "big") != len(answer.body) - 5:
        return False
    response: Any = pb.ModelInferResponse.FromString(answer.body[5:])
    return len(response.raw_output_contents[0]) == 40 * images


def answers(port: int) -> bool:
    """Whether it still answers a call."""
    with connected(port) as client:
        client.send(*call(1, infer()))
        return is_right(client.answers(1)[1])


def test_calls_of_one_connection_are_answered_together(port: int) -> None:
    streams = range(1, 200, 2)
    with connected(port) as client:
        client.send(*[frame for stream in streams for frame in call(stream, infer())])
        assert all(is_right(answer) for answer in client.answers(*streams).values())


def test_frames_may_come_byte_by_byte(port: int) -> None:
    with connected(port) as client:
        for byte in b"".join(frame.to_bytes() for frame in call(1, infer())):
            client._socket.send(bytes([byte]))
        assert is_right(client.answers(1)[1])


def test_headers_in_parts_padded_and_with_a_priority(port: int) -> None:
    content, head = message(infer()), block()
    with connected(port) as client:
        client.send(
            Frame(HEADERS, PADDED | WITH_PRIORITY, 1, b"\x03" + bytes(5) + head[:10] + bytes(3)),
            Frame(CONTINUATION, 0, 1, head[10:20]),
            Frame(CONTINUATION, END_HEADERS, 1, head[20:]),
            Frame(PRIORITY, 0, 1, bytes(5)),
            Frame(0x77, 0, 1, b"unknown"),
            Frame(DATA, PADDED, 1, b"\x07" + content[:100] + bytes(7)),
            Frame(DATA, 0, 1, content[100:]),
            Frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"a-trailer", b"b")),
        )
        assert is_right(client.answers(1)[1])


def test_headers_that_the_client_refers_to_later(port: int) -> None:
    """Its table of headers is kept through calls whose blocks change it and calls whose blocks do not."""
    encoder = hpack.Encoder()
    with connected(port) as client:
        for place in range(40):
            stream = 2 * place + 1
            fields = [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("te", "trailers")]
            fields += [("content-type", "application/grpc"), ("x-request-id", f"id-{place // 3}")]
            head = encoder.encode(fields)
            client.send(Frame(HEADERS, END_HEADERS, stream, head), Frame(DATA, END_STREAM, stream, message(infer())))
            answer = client.answers(stream)[stream]
            assert is_right(answer)
            assert answer.headers["x-request-id"] == f"id-{place // 3}"


def test_no_more_is_sent_than_the_client_takes(port: int) -> None:
    images = 3_000  # 120,000 bytes of answer
    with connected(port, (INITIAL_WINDOW, 0)) as client:
        client.send(*call(1, infer(images)))
        client.read_until(HEADERS)
        client.send(Frame(PING, 0, 0, b"eight by"))
        assert client.read_until(PING).payload == b"eight by"  # and no data before it
        client.send(Frame(WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
        assert len(client.read_until(DATA).payload) == 1000
        client.send(Frame(SETTINGS, 0, 0, struct.pack(">HL", INITIAL_WINDOW, 2**20)))
        received = 1000
        while received < 65_535:  # the connection's own window
            received += len(client.read_until(DATA).payload)
        assert received == 65_535
        client.send(Frame(WINDOW_UPDATE, 0, 0, (2**20).to_bytes(4, "big")))
        while received < 40 * images:
            received += len(client.read_until(DATA).payload)
        assert client.read_until(HEADERS).flags & END_STREAM
    assert answers(port)


def test_a_client_may_close_its_half_and_wait(port: int) -> None:
    with connected(port) as client:
        client.send(*call(1, infer()))
        client._socket.shutdown(socket.SHUT_WR)
        assert is_right(client.answers(1)[1])
        assert client.read() is None


def test_who_goes_away_is_not_waited_for(port: int) -> None:
    with connected(port) as client:
        for stream in range(1, 101, 2):
            client.send(*call(stream, infer()), Frame(RST_STREAM, 0, stream, bytes(4)))
        client.send(*call(101, infer()))
        assert is_right(client.answers(101)[101])


def test_a_ping_is_answered_and_settings_are_acknowledged(port: int) -> None:
    with connected(port) as client:
        client.send(Frame(PING, 0, 0, b"abcdefgh"))
        assert client.read_until(PING) == Frame(PING, 1, 0, b"abcdefgh")
        client.send(Frame(SETTINGS, 0, 0, b""))
        assert client.read_until(SETTINGS).flags == 1


def packed_header(value: str) -> bytes:
    """A header whose value is in Huffman's code, and that goes into no table."""
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple("a", value)], huffman=True)


GOOD_HEAD = Frame(HEADERS, END_HEADERS, 1, block())
BROKEN: dict[str, tuple[list[Frame], int]] = {
    "an even stream": ([Frame(HEADERS, END_HEADERS, 2, block())], PROTOCOL_ERROR),
    "headers on stream 0": ([Frame(HEADERS, END_HEADERS, 0, block())], PROTOCOL_ERROR),
    "data of no stream": ([Frame(DATA, 0, 1, b"x")], PROTOCOL_ERROR),
    "data on stream 0": ([Frame(DATA, 0, 0, b"x")], PROTOCOL_ERROR),
    "more padding than data": ([GOOD_HEAD, Frame(DATA, PADDED, 1, b"\x09abc")], PROTOCOL_ERROR),
    "padding of nothing": ([Frame(HEADERS, END_HEADERS | PADDED, 1, b"")], PROTOCOL_ERROR),
    "half a priority": ([Frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"abc")], FRAME_SIZE_ERROR),
    "headers that are none": ([Frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff")], COMPRESSION_ERROR),
    "an entry that is not in the table": ([Frame(HEADERS, END_HEADERS, 1, b"\xfe")], COMPRESSION_ERROR),
    "a frame among headers": ([Frame(HEADERS, 0, 1, b""), Frame(PING, 0, 0, bytes(8))], PROTOCOL_ERROR),
    "a continuation of nothing": ([Frame(CONTINUATION, END_HEADERS, 1, b"")], PROTOCOL_ERROR),
    "headers without end": (
        [Frame(HEADERS, 0, 1, b"")] + [Frame(CONTINUATION, 0, 1, bytes(16_000))] * 3,
        ENHANCE_YOUR_CALM,
    ),
    "headers twice": ([GOOD_HEAD, GOOD_HEAD], PROTOCOL_ERROR),
    "too long a frame": ([Frame(DATA, 0, 1, bytes(16_385))], FRAME_SIZE_ERROR),
    "a push": ([Frame(PUSH_PROMISE, 0, 1, bytes(8))], PROTOCOL_ERROR),
    "half a ping": ([Frame(PING, 0, 0, b"abc")], FRAME_SIZE_ERROR),
    "a ping on a stream": ([Frame(PING, 0, 1, bytes(8))], PROTOCOL_ERROR),
    "half a reset": ([GOOD_HEAD, Frame(RST_STREAM, 0, 1, b"a")], FRAME_SIZE_ERROR),
    "a reset of no stream": ([Frame(RST_STREAM, 0, 1, bytes(4))], PROTOCOL_ERROR),
    "half a setting": ([Frame(SETTINGS, 0, 0, b"abc")], FRAME_SIZE_ERROR),
    "settings on a stream": ([Frame(SETTINGS, 0, 1, b"")], PROTOCOL_ERROR),
    "a window past all": ([Frame(SETTINGS, 0, 0, struct.pack(">HL", 4, 2**31))], FLOW_CONTROL_ERROR),
    "a frame size past all": ([Frame(SETTINGS, 0, 0, struct.pack(">HL", 5, 2**24))], PROTOCOL_ERROR),
    "half a window": ([Frame(WINDOW_UPDATE, 0, 0, b"a")], FRAME_SIZE_ERROR),
    "a window of nothing": ([Frame(WINDOW_UPDATE, 0, 0, bytes(4))], PROTOCOL_ERROR),
    "a window that overflows": ([Frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")], FLOW_CONTROL_ERROR),
    "a window of no stream": ([Frame(WINDOW_UPDATE, 0, 7, b"\0\0\0\1")], PROTOCOL_ERROR),
    "a flood of pings": ([Frame(PING, 1, 0, bytes(8))] * 40_000, ENHANCE_YOUR_CALM),
    "more settings than there are": ([Frame(SETTINGS, 0, 0, bytes(6) * 33)], ENHANCE_YOUR_CALM),
    "a flood of settings": ([Frame(SETTINGS, 0, 0, b"")] * 300, ENHANCE_YOUR_CALM),
    "settings that overflow the window of a stream": (
        [
            GOOD_HEAD,
            Frame(WINDOW_UPDATE, 0, 1, (2**31 - 1 - 65_535).to_bytes(4, "big")),
            Frame(SETTINGS, 0, 0, struct.pack(">HL", INITIAL_WINDOW, 65_536)),
        ],
        FLOW_CONTROL_ERROR,
    ),
    "calls that are taken back": (
        [
            frame
            for stream in range(1, 601, 2)
            for frame in (Frame(HEADERS, END_HEADERS, stream, block()), Frame(RST_STREAM, 0, stream, bytes(4)))
        ],
        ENHANCE_YOUR_CALM,
    ),
    "calls that we are made to take back": (
        [
            frame
            for stream in range(1, 601, 2)
            for frame in (Frame(HEADERS, END_HEADERS, stream, block()), Frame(WINDOW_UPDATE, 0, stream, bytes(4)))
        ],
        ENHANCE_YOUR_CALM,
    ),
    "a flood of heads that take long to unpack": (
        [
            Frame(HEADERS, END_HEADERS | END_STREAM, stream, block() + packed_header(f"{stream:05}" + "a" * 15_000))
            for stream in range(1, 201, 2)
        ],
        ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_connection_is_ended_with_the_reason(port: int, name: str) -> None:
    frames, code = BROKEN[name]
    with connected(port) as client:
        try:
            client.send(*frames)
        except ConnectionError:
            assert len(frames) > 1000  # it did not wait for the end
        assert int.from_bytes(client.read_until(GOAWAY).payload[4:8], "big") == code
        assert client.read() is None
    assert answers(port)


def test_data_behind_the_end_of_a_call(strict: int) -> None:
    """It is answered before that, or the connection ends: both are within the protocol."""
    with connected(strict) as client:
        client.send(*call(1, infer()), Frame(DATA, END_STREAM, 1, b"more"))
        kinds = []
        while (frame := client.read()) is not None:
            kinds.append(frame.kind)
        assert GOAWAY in kinds
    assert answers(strict)


@pytest.mark.parametrize(
    "fields",
    [
        [(":scheme", "http"), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), (":path", "")],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), (":status", "200")],
        [(":method", "POST"), (":scheme", "http"), ("a", "b"), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("Upper", "b")],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("connection", "close")],
        [],
    ],
)
def test_a_malformed_request_is_reset_and_the_next_is_answered(port: int, fields: list[tuple[str, str]]) -> None:
    head = b"".join(literal(name.encode(), value.encode()) for name, value in fields)
    with connected(port) as client:
        client.send(Frame(HEADERS, END_HEADERS | END_STREAM, 1, head), *call(3, infer()))
        found = client.answers(1, 3)
    assert found[1].reset == PROTOCOL_ERROR
    assert is_right(found[3])


MESSAGES = {
    "nothing": b"",
    "half a prefix": b"\0\0\0",
    "a length without a message": b"\0\0\0\0\x09",
    "more than its length": message(infer()) + b"x",
    "two messages": message(infer()) * 2,
    "a length past all": b"\0\xff\xff\xff\xff" + infer(),
    "cut short": message(infer())[:-1],
    "cut short within": message(infer()[:-1]),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_cut_short_is_an_invalid_argument(port: int, name: str) -> None:
    with connected(port) as client:
        client.send(GOOD_HEAD, Frame(DATA, END_STREAM, 1, MESSAGES[name]))
        answer = client.answers(1)[1]
    assert answer.headers["grpc-status"] == "3"
    assert answer.headers["grpc-message"]


def test_what_is_no_call(port: int) -> None:
    with connected(port) as client:
        client.send(
            Frame(HEADERS, END_HEADERS | END_STREAM, 1, block(method="GET")),
            Frame(HEADERS, END_HEADERS | END_STREAM, 3, block("/grpc.health.v1.Health/Check")),
            Frame(DATA, END_STREAM, 3, b""),
            *call(5, b"", "/nothing"),
        )
        found = client.answers(1, 5)
    assert found[1].headers["grpc-status"] == "12"
    assert found[5].headers["grpc-status"] == "12"
    with connected(port) as client:
        head = hpack.Encoder().encode([(":method", "POST"), (":scheme", "http"), (":path", INFER)])
        client.send(Frame(HEADERS, END_HEADERS | END_STREAM, 1, head))
        assert client.answers(1)[1].headers[":status"] == "415"


def test_a_message_in_tiny_parts_takes_little_room(embedded: ServeCommand, port: int) -> None:
    gateway = embedded.gateway()
    parts = Frame(DATA, 0, 1, b"\0\0").to_bytes() * 10_000
    with connected(port) as client:
        client.send(GOOD_HEAD)
        before = gateway.memory_info().rss
        for _ in range(40):
            client._socket.sendall(parts)
        client.send(Frame(PING, 0, 0, bytes(8)))
        client.read_until(PING)
        assert gateway.memory_info().rss - before < 10 * 2**20


def test_grpc_web_is_not_taken_for_grpc(port: int) -> None:
    for kind, status in (("application/grpc-web", "415"), ("application/grpc-web+proto", "415"), ("text/html", "415")):
        with connected(port) as client:
            client.send(Frame(HEADERS, END_HEADERS, 1, block(content_type=kind)))
            assert client.answers(1)[1].headers[":status"] == status  # before its message comes
    for kind in ("application/grpc+proto", "application/grpc;x=y"):
        with connected(port) as client:
            head = Frame(HEADERS, END_HEADERS, 1, block(content_type=kind))
            client.send(head, *call(1, infer())[1:])
            assert is_right(client.answers(1)[1])


def test_what_may_be_sent_is_said_where_a_message_is_packed(port: int) -> None:
    with connected(port) as client:
        packed = b"\1" + message(infer())[1:]
        client.send(
            Frame(HEADERS, END_HEADERS, 1, block(INFER, ("grpc-encoding", "gzip"))),
            Frame(DATA, END_STREAM, 1, packed),
        )
        answer = client.answers(1)[1]
    assert (answer.headers["grpc-status"], answer.headers["grpc-accept-encoding"]) == ("12", "identity")


@pytest.mark.parametrize(
    ("timeout", "status"),
    [
        ("1n", "4"), ("0S", "4"), ("20S", "0"), ("99999999H", "0"), ("123456789S", "3"), ("1", "3"), ("-1S", "3"),
        ("1.5S", "3"), ("S", "3"), ("1s", "3"),
    ],
)  # fmt: skip
def test_nothing_is_computed_past_the_deadline_of_a_call(port: int, timeout: str, status: str) -> None:
    with connected(port) as client:
        client.send(
            Frame(HEADERS, END_HEADERS, 1, block(INFER, ("grpc-timeout", timeout))),
            Frame(DATA, END_STREAM, 1, message(infer())),
        )
        assert client.answers(1)[1].headers["grpc-status"] == status


def test_a_client_of_http_1_is_not_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := connection.recv(4096):
            received += data
    assert b"HTTP/1" not in received


def test_a_connection_that_has_ended_does_not_end_the_drain(tmp_path: Path) -> None:
    """What it lingers for is its client to close its half; the requests of others are answered meanwhile."""
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_DRAIN_S="0") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        port = command.state().grpc_port
        with connected(port) as other, connected(port) as broken:
            head, data = call(1, infer())
            other.send(head)
            broken.send(Frame(WINDOW_UPDATE, 0, 0, bytes(4)))
            broken.read_until(GOAWAY)
            command.process.send_signal(signal.SIGTERM)
            other.read_until(GOAWAY)  # it drains
            other.send(data)
            assert is_right(other.answers(1)[1])
        assert command.process.wait(15) == 0
        assert "Traceback" not in command.said()


def test_of_a_setting_that_is_there_twice_the_last_counts(port: int) -> None:
    with connected(port, (INITIAL_WINDOW, 2**31 - 1), (INITIAL_WINDOW, 0), (INITIAL_WINDOW, 100)) as client:
        client.send(*call(1, infer(10)))
        assert len(client.read_until(DATA).payload) == 100


class TestLimits:
    def test_a_call_that_is_too_long(self, strict: int) -> None:
        with connected(strict) as client:
            client.send(*call(1, bytes(120_000))[:-1])
            answer = client.answers(1)[1]
            assert answer.headers["grpc-status"] == "3"
            assert "100,000" in answer.headers["grpc-message"]
            client.send(*call(3, infer()))
            assert is_right(client.answers(3)[3])
        assert answers(strict)

    def test_more_bodies_than_there_is_room_for(self, strict: int) -> None:
        with connected(strict) as client:
            for stream in (1, 3, 5):
                client.send(*call(stream, bytes(90_000))[:-1])
            assert client.answers(5)[5].headers["grpc-status"] == "8"
        assert answers(strict)

    def test_headers_that_are_too_long(self, strict: int) -> None:
        head = block(INFER, *[(f"header-{place}", "x" * 100) for place in range(60)])
        with connected(strict) as client:
            client.send(Frame(HEADERS, END_HEADERS | END_STREAM, 1, head))
            assert client.read_until(GOAWAY).payload[4:8] == ENHANCE_YOUR_CALM.to_bytes(4, "big")

    def test_a_table_that_unpacks_to_much(self, strict: int) -> None:
        """A long header in the table, and a thousand references to it of one byte each."""
        head = b"\x40" + literal(b"a", b"b" * 3000)[1:] + b"\xbe" * 1000
        with connected(strict) as client:
            client.send(Frame(HEADERS, END_HEADERS | END_STREAM, 1, head))
            assert client.read_until(GOAWAY).payload[4:8] == ENHANCE_YOUR_CALM.to_bytes(4, "big")

    def test_a_call_that_does_not_arrive(self, strict: int) -> None:
        with connected(strict) as client:
            client.send(*call(1, infer(100))[:-1])
            answer = client.answers(1)[1]
        assert answer.headers["grpc-status"] == "4"

    def test_a_client_that_takes_no_answer(self, strict: int) -> None:
        with connected(strict, (INITIAL_WINDOW, 0)) as client:
            client.send(*call(1, infer()))
            client.read_until(HEADERS)
            while client.read() is not None:
                continue
        assert answers(strict)

    def test_slow_readers_take_no_room_from_others_and_are_dropped(self, strict: int) -> None:
        with connected(strict, (INITIAL_WINDOW, 0)) as slow:
            for stream in (1, 3):
                slow.send(*call(stream, infer(120)))
                slow.read_until(HEADERS)
            with connected(strict) as client:
                client.send(*call(1, infer(120)))
                assert is_right(client.answers(1)[1], 120)
            # A byte now and then is no reason to wait on.
            for _ in range(1000):
                slow.send(Frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), Frame(PING, 0, 0, bytes(8)))
                kinds: list[int] = []
                while not kinds or kinds[-1] != PING:
                    frame = slow.read()
                    assert frame is not None
                    kinds.append(frame.kind)
                if RST_STREAM in kinds:
                    break
                threading.Event().wait(0.02)
            else:
                raise AssertionError("it waits for ever")
        assert answers(strict)

    def test_half_a_head(self, strict: int) -> None:
        with connected(strict) as client:
            client.send(*call(1, infer(120))[:2])  # something else is on its way, too
            client.send(Frame(HEADERS, 0, 3, block()[:20]))
            assert client.read_until(GOAWAY)
            while client.read() is not None:
                continue
        assert answers(strict)

    def test_a_connection_without_calls(self, strict: int) -> None:
        with connected(strict) as client:
            assert client.read_until(GOAWAY).payload[4:8] == bytes(4)
            assert client.read() is None

    def test_more_calls_at_once_than_are_allowed(self, port: int) -> None:
        with connected(port) as client:
            heads = [Frame(HEADERS, END_HEADERS, stream, block()) for stream in range(1, 2 * 257, 2)]
            client.send(*heads)
            assert client.answers(513)[513].reset == REFUSED_STREAM
            client.send(Frame(DATA, END_STREAM, 1, message(infer())))
            assert is_right(client.answers(1)[1])


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


@hypothesis_settings(many, max_examples=300)
@given(st.lists(damaged(GOOD), min_size=5, max_size=5).map(Corpus))
def test_damaged_frames_harm_nobody_else(strict: int, sent: Corpus) -> None:
    """Whatever becomes of a connection that sends them, the next is answered, and nothing is left of it."""
    for content in sent:
        with connected(strict) as client:
            client._socket.sendall(content)
    assert answers(strict)


def test_what_is_received_is_accounted_for(strict: int) -> None:
    """After all that, a body that just fits is taken: nothing is counted that is no more."""

    def fits(client: Client) -> bool:
        client.send(*call(1, infer(120)))
        return is_right(client.answers(1)[1], 120)

    with connected(strict) as client:
        assert fits(client)
