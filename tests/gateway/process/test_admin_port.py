"""The admin port has deadlines, limits and a check of the Host header, as the others have."""

import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.process import admin
from tests.support.command import ServeCommand
from tests.support.http import connected, read_answers

HALF = [
    b"",
    b"GET /metr",
    b"POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{",
    b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\nGET /pa",
]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """That of a page, under a deadline that is soon over."""

    async def page(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    monkeypatch.setattr(admin, "SILENCE_S", 0.5)
    with admin.serve("127.0.0.1", 0, Starlette(routes=[Route("/page", page)]), None) as port:
        yield port


@pytest.mark.parametrize("half", HALF, ids=["nothing", "half a head", "half a body", "half a second head"])
def test_request_that_does_not_arrive_ends_its_connection(port: int, half: bytes) -> None:
    with connected(f"http://127.0.0.1:{port}") as connection:
        connection.sendall(half)
        read_answers(connection)


def test_half_sent_requests_leave_room_for_others(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * admin.CONNECTIONS):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            with contextlib.suppress(OSError):  # it made room for a later one
                held.sendall(HALF[2])
        assert httpx.get(f"http://127.0.0.1:{port}/page", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
    ],
)
def test_page_of_another_name_is_refused(embedded: ServeCommand, host: str, status: int) -> None:
    url = f"http://127.0.0.1:{embedded.state().admin_port}"
    for page in ("/metrics", "/models"):
        assert httpx.get(url + page, headers={"host": host}, timeout=10).status_code == status
