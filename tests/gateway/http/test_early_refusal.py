"""What would be refused anyway is refused by its head: its body costs nobody anything."""

import asyncio

from fashion_mnist.errors import FashionMNISTError, Overloaded
from fashion_mnist.settings import Settings
from gateway import slow_work
from gateway.http.reader import Reader
from gateway.http.server import Server
from gateway.slow_work import SlowWork
from gateway.types.request import Request

LENGTH = 190_000


class Connection:
    """What a reader has found."""

    deadline = 0.0
    stopped = False

    def __init__(self) -> None:
        self.refused: list[FashionMNISTError] = []

    def receive(self, request: Request) -> None:
        """Take a request."""

    def refuse(self, error: FashionMNISTError) -> None:
        """Note it down."""
        self.refused.append(error)

    def refuse_malformed(self) -> None:
        """Take bytes that are no HTTP."""

    def send_continue(self) -> None:
        """Say nothing."""


def test_large_body_for_which_there_is_no_thread_is_not_received() -> None:
    async def read(full: bool) -> list[FashionMNISTError]:
        server = Server(Settings(), lambda request: None)
        server.check_room = lambda length: Overloaded("full") if full and length == LENGTH else None
        connection = Connection()
        head = b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LENGTH
        Reader(connection, server).parse(memoryview(head))
        return connection.refused

    assert not asyncio.run(read(full=False))
    (error,) = asyncio.run(read(full=True))
    assert isinstance(error, Overloaded)


def test_threads_are_full_when_so_many_jobs_wait_as_may() -> None:
    async def fill() -> None:
        work = SlowWork(float("inf"))
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def block(allowance: float) -> None:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)

        for _ in range(2):  # the two threads
            work.submit(1.0, block, lambda result: None, lambda: False)
        while work.waiting:
            await asyncio.sleep(0.001)
        for _ in range(slow_work.MAX_JOBS):
            assert not work.full
            work.submit(1.0, lambda allowance: None, lambda result: None, lambda: False)
        assert work.full
        release.set()
        while work.full:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(fill(), 30))
