"""Clients that are slow or greedy, each beside one that is neither."""

import contextlib
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from fashion_mnist.encoding import encode_image
from tests.hostile import overloading
from tests.hostile.floods import BAD, HEALTH, UPGRADE, flood, hidden_jpeg, photograph
from tests.hostile.hunt import Hunt, Scenario
from tests.support.bodies import png_of_size
from tests.support.command import wait_until
from tests.support.grpc_frames import FLOODS
from tests.support.grpc_frames import connected as grpc_connected
from tests.support.http import connected, request
from tests.support.load import TIMEOUT_S
from tests.support.memory import Peak

MEBIBYTE: Final = 2**20
BODY_BYTES: Final = 12_800_000
BODIES: Final = 40
PEAK_BYTES: Final = 300 * MEBIBYTE
AFTERWARDS_BYTES: Final = 150 * MEBIBYTE


def _open(hunt: Hunt, stack: ExitStack, count: int) -> list[socket.socket]:
    """So many connections, as far as descriptors reach."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    return [stack.enter_context(connected(hunt.server.url)) for _ in range(min(count, hard - 200))]


def idle(hunt: Hunt) -> None:
    """Thousands of connections on which nothing is said."""
    with hunt.beside(hunt.server), ExitStack() as stack:
        hunt.figures["connections"] = len(_open(hunt, stack, 4000))
        time.sleep(hunt.seconds)


def halves(hunt: Hunt) -> None:
    """Hundreds of requests of which a byte comes now and then: heads, bodies, chunks."""
    starts = [
        b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n",
        b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n310\r\n",
        b"",
    ]
    with hunt.beside(hunt.server), ExitStack() as stack:
        connections = _open(hunt, stack, 800)
        for place, connection in enumerate(connections):
            connection.sendall(starts[place % len(starts)])
        deadline = time.monotonic() + hunt.seconds
        while time.monotonic() < deadline:
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(b"G")
            time.sleep(0.2)
    hunt.figures["connections"] = len(connections)


def flooding(data: bytes) -> Callable[[Hunt], None]:
    """One client that pipelines the same without an end."""

    def run(hunt: Hunt) -> None:
        with hunt.beside(hunt.server), flood(hunt.server.url, data) as found:
            time.sleep(hunt.seconds)
        hunt.figures["answers_per_s"] = round(found.answered / hunt.seconds)

    return run


def slow_readers(hunt: Hunt) -> None:
    """Pipelined requests for large answers, of which nothing is read."""
    whole = request(bytes(784 * 20)) * 16
    with hunt.beside(hunt.server), ExitStack() as stack:
        connections = _open(hunt, stack, 10)  # more of them would fill the queue, whose limit is for that
        deadline = time.monotonic() + hunt.seconds
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
        while time.monotonic() < deadline:
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(whole)
            time.sleep(0.05)


def resetters(hunt: Hunt) -> None:
    """Connections that are reset: at once, within a request, and before its answer."""
    parts = [b"", b"POST /predi", request(bytes(784))[:-100], request(bytes(784)), request(bytes(784)) * 50]
    address, count = urlsplit(hunt.server.url), 0
    with hunt.beside(hunt.server):
        deadline = time.monotonic() + hunt.seconds
        while time.monotonic() < deadline:
            with socket.create_connection((str(address.hostname), address.port), timeout=TIMEOUT_S) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(parts[count % len(parts)])
            count += 1
            time.sleep(0.001)
    hunt.figures["connections"] = count


def costly(hunt: Hunt) -> None:
    """Small files that would take much to decode, from eight connections."""
    files = [
        hidden_jpeg(32_000),
        png_of_size(30_000, 30_000),
        encode_image(np.zeros((16_000, 16_000), np.uint8), "PNG"),
        photograph(4000, 3000, progressive=True),
        b"[" + b"[]," * 300_000 + b"[]]",
        b'{"instances": [' + b",".join(b'{"%d": 1}' % place for place in range(50_000)) + b"]}",
    ]
    with hunt.beside(hunt.server), _sending(hunt, files, 8) as sent:
        time.sleep(hunt.seconds)
        assert not sent.failures, sent.failures[0]
    hunt.figures["files"] = sent.count


class _Sent:
    stopped = False
    count = 0

    def __init__(self) -> None:
        self.failures: list[str] = []


@contextmanager
def _sending(hunt: Hunt, bodies: list[bytes], clients: int) -> Iterator[_Sent]:
    """So many clients that send these bodies one after the other; answers of 500 and above are failures."""
    found = _Sent()

    def send(place: int) -> None:
        while not found.stopped:
            place += 1
            with contextlib.suppress(OSError), connected(hunt.server.url) as connection:
                connection.sendall(request(bodies[place % len(bodies)], "Connection: close"))
                status = connection.recv(65536)[9:12]
                found.count += 1
                if status[:1] == b"5":
                    found.failures.append(f"{status!r} for {bodies[place % len(bodies)][:60]!r}")

    threads = [threading.Thread(target=send, args=(place,), daemon=True) for place in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stopped = True
        for thread in threads:
            thread.join(TIMEOUT_S)


def grpc_floods(hunt: Hunt) -> None:
    """Frames that cost more than they take to send."""
    port = hunt.server.state().grpc_port
    with hunt.beside(hunt.server):
        for frames in FLOODS.values():
            data = b"".join(frame.to_bytes() for frame in frames(20_000))
            with grpc_connected(port) as client:
                client.socket.settimeout(max(0.5, hunt.seconds / len(FLOODS)))
                with contextlib.suppress(TimeoutError, ConnectionError):
                    client.socket.sendall(data)


def large_bodies(hunt: Hunt) -> None:
    """Forty bodies of 12.8 MB at once: refused or answered, and not kept."""
    whole = request(b"\x01" * BODY_BYTES)
    with hunt.serving("--engine", "embedded") as command, ExitStack() as stack:
        gateway = command.gateway()
        peak, before = Peak(gateway), gateway.memory_info().rss
        connections = [stack.enter_context(connected(command.url)) for _ in range(BODIES)]
        threads = [threading.Thread(target=_send_quietly, args=(each, whole), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        highest = before + peak.grown()
        stack.close()
        started = time.monotonic()
        wait_until(lambda: gateway.memory_info().rss < AFTERWARDS_BYTES, "memory given back", 60)
        hunt.figures |= {
            "peak_MiB": round(highest / MEBIBYTE),
            "afterwards_MiB": round(gateway.memory_info().rss / MEBIBYTE),
            "given_back_s": round(time.monotonic() - started, 1),
        }
        hunt.whole_again(command.url)
        assert highest < PEAK_BYTES, f"{highest / MEBIBYTE:.0f} MiB at the peak"


def _send_quietly(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.settimeout(30)
        connection.sendall(data)
        connection.recv(65536)


def admin_port(hunt: Hunt) -> None:
    """Half-sent requests to the port of the metrics."""
    port = hunt.server.state().admin_port
    with hunt.beside(hunt.server), ExitStack() as stack:
        held = [stack.enter_context(connected(f"http://127.0.0.1:{port}")) for _ in range(200)]
        for connection in held:
            connection.sendall(b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
        started = time.monotonic()
        with connected(f"http://127.0.0.1:{port}") as connection:
            connection.settimeout(5)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200", "no metrics beside half-sent requests"
        hunt.figures["metrics_s"] = round(time.monotonic() - started, 3)


def overload(name: str, share: float) -> Callable[[Hunt], None]:
    """Ten times as many connections as the service needs to be busy: the share of its peak that it still answers."""

    def run(hunt: Hunt) -> None:
        peak, loaded = overloading.goodput(hunt, name)
        hunt.figures |= {"peak_per_s": round(peak), "loaded_per_s": round(loaded), "share": round(loaded / peak, 3)}
        assert loaded >= share * peak, f"{loaded / peak:.0%} of the peak"

    return run


_UNNOTICED: Final = "a well-behaved client gets all its answers, at most 10 times as late; memory flat"

SCENARIOS: Final = [
    Scenario("idle connections", _UNNOTICED, idle),
    Scenario("half requests, byte by byte", _UNNOTICED, halves),
    Scenario("flood of health checks", _UNNOTICED, flooding(HEALTH)),
    Scenario("flood of refused images", _UNNOTICED, flooding(BAD)),
    Scenario("flood of upgrades", _UNNOTICED, flooding(UPGRADE)),
    Scenario("slow readers", _UNNOTICED, slow_readers),
    Scenario("resetters", _UNNOTICED, resetters),
    Scenario("files that cost much", _UNNOTICED, costly),
    Scenario("floods of gRPC frames", _UNNOTICED, grpc_floods),
    Scenario("half requests to the admin port", "metrics are answered within 5 s", admin_port),
    Scenario("40 bodies of 12.8 MB", "a gateway peaks at 300 MiB and holds 150 at most a minute later", large_bodies),
    Scenario(
        "overload of raw images",
        "goodput at 10 times the connections at least 90 % of the peak",
        overload("raw", 0.9),
        False,
    ),
    Scenario(
        "overload of 190-kB PNGs",
        "goodput at 10 times the connections at least 80 % of the peak",
        overload("png", 0.8),
        False,
    ),
]
