"""What sends for LoadGen: each query has its answer, from servers of ours and of others, whatever becomes of them."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from benchmarks.open_loop.grpc_connection import GRPCConnection
from benchmarks.open_loop.http_connection import HTTPConnection
from benchmarks.open_loop.sender import Answer, Connection, Sender
from loadtest.kinds import GRPC, Sent, find_kind
from loadtest.requests import prepare
from tests.support.command import ServeCommand

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
    [("grpc", 100), ("grpc x 300", 8), ("binary", 100), ("binary x 300", 8), ("json", 8), ("oip-binary", 8)],
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


HELLO = [Sent(GRPC, b"hello")]


@pytest.mark.parametrize("connection_class", [GRPCConnection, HTTPConnection])
def test_a_server_that_never_says_a_word_is_no_hang(
    monkeypatch: pytest.MonkeyPatch, connection_class: type[Connection]
) -> None:
    monkeypatch.setattr("benchmarks.open_loop.sender.CONNECT_S", 0.2)
    monkeypatch.setattr("benchmarks.open_loop.sender.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert {answer.status for answer in send(url, HELLO, 5, connection_class, at_once=2)} == {0}


def test_a_call_without_an_answer_is_given_up_and_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.open_loop.sender.ANSWER_S", 0.5)
    released, calls = threading.Event(), itertools.count()

    def answer(message: bytes, _: grpc.ServicerContext) -> bytes:
        if next(calls) == 3:
            released.wait(DEADLINE_S)
        return message

    with other_server(answer) as url:
        statuses = [answer.status for answer in send(url, HELLO, 12, at_once=2)]
        released.set()
    assert sorted(statuses) == [0, *[200] * 11]


def test_a_port_that_speaks_something_else_is_no_hang(embedded: ServeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.open_loop.sender.CONNECT_S", 0.5)
    assert {answer.status for answer in send(embedded.url, HELLO, 3)} == {0}
    grpc_url = f"http://127.0.0.1:{embedded.state().grpc_port}"
    (request,) = prepare([find_kind("binary")], 1)
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
