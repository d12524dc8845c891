"""Listening sockets that stop admitting clients."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.http import listening

SO_ATTACH_FILTER = 26
WAIT_S = 0.3
"""Less than the second after which a dropped first packet comes again."""


class Unprivileged(socket.socket):
    """A socket on a kernel that takes no filter from us."""

    def setsockopt(self, *arguments: Any) -> None:
        """Refuse SO_ATTACH_FILTER as such a kernel does."""
        if arguments[1] == SO_ATTACH_FILTER:
            raise PermissionError(1, "Operation not permitted")
        super().setsockopt(*arguments)


@pytest.fixture(params=[socket.socket, Unprivileged])
def public(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A listening socket, with the kernel's filter and without."""
    (made,) = listening.listen("127.0.0.1", 0, 1)
    with request.param(fileno=made.detach()) as public:
        yield public


def connected(public: socket.socket, clients: int, stack: contextlib.ExitStack) -> int:
    """How many of so many new clients get a connection at once."""
    count = 0
    for _ in range(clients):
        client = stack.enter_context(socket.socket())
        client.settimeout(WAIT_S)
        with contextlib.suppress(TimeoutError):
            client.connect(public.getsockname())
            count += 1
    return count


def test_who_is_connected_is_accepted_and_hardly_anybody_else_connects(public: socket.socket) -> None:
    with contextlib.ExitStack() as stack:
        assert connected(public, 3, stack) == 3
        listening.drop_new_connections(public)
        assert connected(public, 3, stack) == 0
        public.settimeout(WAIT_S)
        for _ in range(3):
            public.accept()[0].close()
        assert connected(public, 3, stack) <= 1


def test_clients_are_admitted_again(public: socket.socket) -> None:
    with contextlib.ExitStack() as stack:
        listening.drop_new_connections(public)
        listening.accept_new_connections(public)
        assert connected(public, 3, stack) == 3
