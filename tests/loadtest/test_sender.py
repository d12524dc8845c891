"""What sends for LoadGen: each query has its answer, from servers of ours and of others, whatever becomes of them."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import h2.errors
import h2.events
import h2.settings
import pytest

from loadtest.grpc_calls import GRPCConnection
from loadtest.http1 import HTTPConnection
from loadtest.kinds import GRPC, Sent, find_kind
from loadtest.requests import prepare
from loadtest.sender import Answer, Connection, Sender
from tests.gateway.command import ServeCommand
from tests.loadtest.scripted import Peer, scripted

DEADLINE_S = 20.0


def send(
    url: str,
    requests: Sequence[Sent],
    queries: int,
    connection_class: type[Connection] = GRPCConnection,
    at_once: int = 1024,
) -> list[Answer]:
    """All answers to so many queries, which take the requests in turns."""
    answers, done = list[Answer](), threading.Event()

    def take(found: list[Answer]) -> None:
        answers.extend(found)
        if len(answers) >= queries:
            done.set()

    with Sender(url, requests, take, connection_class, at_once) as sender:
        sender.send([(query, query % len(requests)) for query in range(queries)])
        assert done.wait(DEADLINE_S), f"{len(answers)} of {queries} answers came"
    assert sorted(answer.query for answer in answers) == list(range(queries))
    return answers


@contextmanager
def other_server(answer: Callable[[bytes, grpc.ServicerContext], bytes], *options: tuple[str, int]) -> Iterator[str]:
    """The address of gRPC's own server."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0), *options])
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(DEADLINE_S)


@pytest.mark.parametrize(
    ("kind", "at_once"),
    [("grpc", 100), ("grpc x 300", 8), ("octets", 100), ("octets x 300", 8), ("json", 8), ("oip-binary", 8)],
)
def test_our_service_answers_each_query_rightly(embedded: ServeCommand, kind: str, at_once: int) -> None:
    requests = prepare([find_kind(kind)], 8)
    over_grpc = requests[0].kind.grpc
    url = f"http://127.0.0.1:{embedded.state().grpc_port}" if over_grpc else embedded.url
    connection_class = GRPCConnection if over_grpc else HTTPConnection
    for answer in send(url, [request.sent for request in requests], 300, connection_class, at_once):
        request = requests[answer.request]
        assert answer.status == 200
        assert request.kind.read(answer.body) == request.labels
        assert 0 < answer.seconds < DEADLINE_S


@pytest.mark.parametrize("size", [0, 1, 16_000, 70_000, 3_000_000])
def test_messages_pass_the_windows_of_grpcs_own_server(size: int) -> None:
    requests = [Sent(GRPC, bytes([number]) * size) for number in range(4)]
    with other_server(lambda message, _: message) as url:
        for answer in send(url, requests, 40, at_once=8):
            assert (answer.status, answer.body) == (200, requests[answer.request].body)


def test_statuses_are_those_of_http() -> None:
    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode[message.decode()], "as you wish")
        raise AssertionError

    names = ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "INVALID_ARGUMENT", "INTERNAL", "DATA_LOSS"]
    with other_server(answer) as url:
        found = send(url, [Sent(GRPC, name.encode()) for name in names], 20)
    assert {names[answer.request]: answer.status for answer in found} == {
        "RESOURCE_EXHAUSTED": 429,
        "UNAVAILABLE": 503,
        "INVALID_ARGUMENT": 400,
        "INTERNAL": 500,
        "DATA_LOSS": 500,
    }


# A server that does what seldom happens

HELLO = [Sent(GRPC, b"hello")]


def answer_all(peer: Peer, _: object) -> None:
    for stream in list(peer.waiting):
        peer.answer(stream, b"%d bytes" % len(peer.received[stream]))


def test_as_many_calls_at_a_time_as_a_server_allows_and_in_any_order() -> None:
    def script(peer: Peer, event: object) -> None:
        if len(peer.waiting) == 3 or event is None:
            for stream in reversed(peer.waiting):
                peer.answer(stream, b"well")

    with scripted(script, MAX_CONCURRENT_STREAMS=3) as (url, peers):
        assert {answer.status for answer in send(url, HELLO, 60, at_once=6)} == {200}
        assert [peer.most_open for peer in peers] == [3, 3]


def test_a_window_that_opens_by_settings_is_used() -> None:
    def script(peer: Peer, event: object) -> None:
        if isinstance(event, h2.events.RequestReceived):
            peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
        answer_all(peer, event)

    large = [Sent(GRPC, b"x" * 50_000)]
    with scripted(script, INITIAL_WINDOW_SIZE=1000) as (url, peers):
        (answer,) = send(url, large, 1)
        assert (answer.status, answer.body) == (200, b"50005 bytes")
        assert not peers[0].reset


def test_a_window_that_closes_by_settings_is_kept() -> None:
    def script(peer: Peer, event: object) -> None:
        if isinstance(event, h2.events.RequestReceived):
            peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})  # below 0, for this one
        elif event is None and not peer.waiting and (stream := max(peer.received, default=0)):
            peer.h2.increment_flow_control_window(100_000, stream)
            peer.h2.increment_flow_control_window(100_000)
        answer_all(peer, event)

    large = [Sent(GRPC, b"x" * 80_000)]
    with scripted(script) as (url, _):
        (answer,) = send(url, large, 1)
        assert (answer.status, answer.body) == (200, b"80005 bytes")


def test_an_answer_may_come_before_the_request_is_whole() -> None:
    def script(peer: Peer, event: object) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.stream_id is not None
            peer.answer(event.stream_id, b"enough")

    with scripted(script, INITIAL_WINDOW_SIZE=10, MAX_CONCURRENT_STREAMS=2) as (url, peers):
        answers = send(url, [Sent(GRPC, b"x" * 1000)], 20, at_once=2)
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"enough")}
        assert len(peers) == 1
        assert peers[0].most_open <= 2


@pytest.mark.parametrize(("padding", "trailer"), [(7, ""), (255, ""), (None, "x" * 20_000)])
def test_frames_may_be_padded_and_blocks_in_parts(padding: int | None, trailer: str) -> None:
    def script(peer: Peer, _: object) -> None:
        for stream in list(peer.waiting):
            peer.answer(stream, b"well", padding=padding, trailer=trailer)

    with scripted(script) as (url, _):
        assert {(answer.status, answer.body) for answer in send(url, HELLO, 8, at_once=4)} == {(200, b"well")}


def test_a_call_that_is_reset_has_no_answer_and_others_have() -> None:
    def script(peer: Peer, event: object) -> None:
        if 1 in peer.waiting:
            peer.h2.reset_stream(1, h2.errors.ErrorCodes.REFUSED_STREAM)
            peer.waiting.remove(1)
        answer_all(peer, event)

    with scripted(script) as (url, _):
        statuses = [answer.status for answer in send(url, HELLO, 20, at_once=1)]
    assert sorted(statuses) == [0, *[200] * 19]


def test_another_connection_follows_one_that_is_leaving() -> None:
    """Of three calls the first is answered, and the others were not taken any more."""

    def script(peer: Peer, event: object) -> None:
        if len(peer.waiting) == 3:
            peer.say(bytes.fromhex("000008 07 00 00000000 00000001 00000000"))  # h2 itself would say no more after it
            peer.answer(1, b"well")
            peer.waiting.clear()

    with scripted(script) as (url, peers):
        answers = send(url, HELLO, 9, at_once=3)
        assert sorted(answer.status for answer in answers) == [0] * 6 + [200] * 3
        assert len(peers) == 3


def test_a_server_that_never_says_a_word_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.sender.CONNECT_S", 0.2)
    with scripted(None) as (url, _):
        assert {answer.status for answer in send(url, HELLO, 5, at_once=2)} == {0}


def test_a_call_without_an_answer_is_given_up_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.sender.ANSWER_S", 0.3)

    def script(peer: Peer, event: object) -> None:
        for stream in list(peer.waiting):
            if stream != 3:
                peer.answer(stream, b"well")

    with scripted(script) as (url, peers):
        statuses = [answer.status for answer in send(url, HELLO, 12, at_once=2)]
        assert sorted(statuses) == [0, *[200] * 11]
        assert len(peers) == 1
        assert peers[0].reset <= {3}


def test_a_port_that_speaks_something_else_is_no_hang(embedded: ServeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.sender.CONNECT_S", 0.5)
    assert {answer.status for answer in send(embedded.url, HELLO, 3)} == {0}
    grpc_url = f"http://127.0.0.1:{embedded.state().grpc_port}"
    (request,) = prepare([find_kind("octets")], 1)
    assert 200 not in {answer.status for answer in send(grpc_url, [request.sent], 3, HTTPConnection)}


def test_an_answer_that_nobody_asked_for_ends_a_connection_of_http1() -> None:
    """What follows it would be taken for the answers to others."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    requests = [Sent("/one", b""), Sent("/two", b"")]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(3):
                with listening.accept()[0] as sock, contextlib.suppress(ConnectionError):
                    sock.settimeout(DEADLINE_S)
                    while request := sock.recv(65_536):
                        said = request.split()[1][1:3]
                        # The second answer has another one behind it.
                        sock.sendall(early + answer + said + (answer + b"xx" if said == b"tw" else b""))

        serving = threading.Thread(target=serve)
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        answers = send(url, requests, 6, HTTPConnection, at_once=1)
        serving.join(DEADLINE_S)
    assert {(answer.request, answer.status, answer.body) for answer in answers} == {(0, 200, b"on"), (1, 200, b"tw")}
