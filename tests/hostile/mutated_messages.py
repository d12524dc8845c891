"""HTTP/1.1 messages that were once good, sent to the gateway and to proxies in front of it.

What a proxy and the gateway read differently would end in somebody else's answer: behind each message a well-formed
request, on another connection through the same proxy, must get its own label and its own X-Request-Id.
"""

import contextlib
import random
import re
import shutil
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from serving import processes
from serving.config import free_ports
from tests.hostile.hunt import Hunt, Skipped
from tests.support.command import wait_until
from tests.support.http import connected, read_answer, request
from tests.support.proxy import Proxy

SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"
IMAGE: Final = bytes(784)
READ_S: Final = 0.15
"""How long an answer is waited for: a message without an end gets none."""

LINES: Final = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:\x0bchunked",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding:\r\n chunked",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: +784",
    b"Content-Length: 0784",
    b"Content-Length: 784, 784",
    b"Content-Length: 0x310",
    b"Content-Length: 18446744073709551617",
    b"Content-Length:",
    b"Content-Length: 784\n",
    b"Connection: close, Content-Length",
    b"Connection: keep-alive",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Host: a b",
    b"Host: [::1",
    b": no name",
    b"no colon",
    b"X\0: y",
    b"X: \0",
    b"X: y\rZ: z",
    b" X: folded",
    b"TE: trailers",
    b"Trailer: Content-Length",
    b"Accept: application/octet-stream",
    b"X: " + b"y" * 20_000,
]
STARTS: Final = [
    b"POST /predictions/fashion_mnist HTTP/1.1",
    b"GET /health/live HTTP/1.1",
    b"HEAD /health/live HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET http://x/health/live HTTP/1.1",
    b"POST /v2/models/fashion_mnist/infer HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1",
    b"POST /predictions/fashion_mnist HTTP/1.0",
    b"POST /predictions/fashion_mnist HTTP/2.0",
    b"POST  /predictions/fashion_mnist HTTP/1.1",
    b"\r\nGET /health/live HTTP/1.1",
    b"GET /" + b"a" * 17_000 + b" HTTP/1.1",
]
BODIES: Final = [
    (b"Content-Length: %d" % len(IMAGE), IMAGE),
    (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
    (b"Transfer-Encoding: chunked", b"310\r\n" + IMAGE + b"\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked", b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked", b"0\r\n\r\n" + SMUGGLED),
    (b"Transfer-Encoding: chunked", b'0;a="\n\r\n\r\n' + SMUGGLED),
    (b"Transfer-Encoding: chunked", b"1\r\nZ\r\nQ\r\n\r\n" + SMUGGLED),
    (b"Transfer-Encoding: chunked", b"0\r\nContent-Length: 5\r\n\r\n" + SMUGGLED),
    (b"Content-Length: 6", b"0\r\n\r\nG"),
]


def mutated(chance: random.Random) -> bytes:
    """A message with up to four faults in its lines, their order, their ends, or any of its bytes."""
    framing, body = chance.choice(BODIES)
    lines = [chance.choice([STARTS[0], STARTS[0], *STARTS]), b"Host: x", b"X-Request-Id: attack", framing]
    for _ in range(chance.randint(1, 3)):
        place = chance.randint(1, len(lines))
        match chance.randrange(5):
            case 0 | 1 | 2:
                lines.insert(place, chance.choice(LINES))
            case 3:
                lines.insert(place, lines[place - 1])
            case _ if len(lines) > 2:
                del lines[place - 1]
            case _:
                pass
    ends = [chance.choice([b"\r\n"] * 40 + [b"\n", b"\r", b"\r\r\n"]) for _ in lines]
    data = bytearray(b"".join(line + end for line, end in zip(lines, ends, strict=True)) + b"\r\n" + body)
    if not chance.randrange(4):
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(min(len(data), 300))] = chance.randrange(256)
    return bytes(data)


def statuses(connection: socket.socket, data: bytes) -> list[int]:
    """Send a message; the statuses of what comes back within a moment."""
    found = b""
    with contextlib.suppress(OSError):
        connection.settimeout(READ_S)
        connection.sendall(data)
        while received := connection.recv(65536):
            found += received
    # By their status lines: of HEAD comes a Content-Length and no content.
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3}) ", found, re.MULTILINE)]


def directly(hunt: Hunt) -> None:
    """To the gateway itself."""
    chance, seen = hunt.random("messages"), Counter[int]()
    count = max(200, hunt.requests // 20)
    with hunt.beside(hunt.server):
        for _ in range(count):
            data = mutated(chance)
            with connected(hunt.server.url) as connection:
                found = statuses(connection, data + request(b"", "Connection: close", method="GET", path="/last"))
            seen.update(found)
            assert all(status < 500 or status in (501, 505) for status in found), f"{found} for {data!r}"
    hunt.figures |= {"messages": count, "statuses": dict(sorted(seen.items()))}


class Victim:
    """Somebody else at the same proxy."""

    def __init__(self, hunt: Hunt, opened: Callable[[], AbstractContextManager[socket.socket]]) -> None:
        self._images, self._opened, self._count = hunt.images, opened, 0

    def ask(self, message: bytes) -> None:
        """Fails where the answer is not its own."""
        self._count += 1
        place = self._count % len(self._images.labels)
        name = f"victim-{self._count}"
        with self._opened() as connection:
            connection.sendall(request(self._images.contents[place], f"X-Request-Id: {name}"))
            answer = read_answer(connection)
        told = f"{answer.status} {answer.headers} {answer.body[:200]!r} behind {message!r}"
        assert answer.status == 200, told
        assert answer.headers["x-request-id"] == name, told
        assert self._images.labels[place].encode() in answer.body[:60], told


def _behind(hunt: Hunt, name: str, opened: Callable[[], AbstractContextManager[socket.socket]]) -> None:
    chance, seen = hunt.random(name), Counter[int]()
    count = max(100, hunt.requests // 80)
    victim = Victim(hunt, opened)
    with hunt.beside(hunt.server):
        for _ in range(count):
            data = mutated(chance)
            with opened() as connection:
                seen.update(statuses(connection, data))
                victim.ask(data)
            victim.ask(data)
    hunt.figures |= {"messages": count, "statuses": dict(sorted(seen.items()))}
    assert not seen[500], "500 for a client's message"


def behind_haproxy(hunt: Hunt) -> None:
    """Through deploy/haproxy/haproxy.cfg, over TLS."""
    _program("haproxy")
    address = urlsplit(hunt.server.url)
    with Proxy(hunt.new_folder(), {"GATEWAY_A": f"{address.hostname}:{address.port}"}).running() as proxy:
        proxy.wait("a", up=True)
        tls = proxy.tls()

        @contextmanager
        def opened() -> Iterator[ssl.SSLSocket]:
            with connected(proxy.url) as plain, tls.wrap_socket(plain, server_hostname="localhost") as connection:
                yield connection

        _behind(hunt, "haproxy", opened)


NGINX: Final = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
{temporary}
  upstream gateway {{ server {gateway}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 16m;
    location / {{
      proxy_pass http://gateway;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering off;
    }}
  }}
}}
"""


def behind_nginx(hunt: Hunt) -> None:
    """Through nginx as it is commonly set up: connections to the gateway are kept, bodies passed on as they come."""
    program, folder = _program("nginx"), hunt.new_folder()
    (port,) = free_ports(1)
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    text = NGINX.format(
        user="user root;" if Path.home() == Path("/root") else "",
        folder=folder,
        temporary="\n".join(f"  {name}_temp_path {folder}/{name};" for name in names),
        gateway=urlsplit(hunt.server.url).netloc,
        port=port,
    )
    (folder / "nginx.conf").write_text(text)
    command: list[str | Path] = [program, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    process = processes.start(command, {}, folder, None)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or _listens(port), "nginx", 10)
        _behind(hunt, "nginx", lambda: connected(url))
    finally:
        processes.stop(process, 1)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise Skipped(f"needs {name}")
    return found
