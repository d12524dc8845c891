"""Accepts TLS connections. Clients that have not finished their handshake count as connections, too."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from gateway.http.server import LINGER_S, Server

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.25


class TlsListener:
    """Accepts clients until it is closed."""

    def __init__(
        self,
        server: Server,
        protocol: Callable[[], asyncio.Protocol],
        listening: socket.socket,
        context: ssl.SSLContext,
    ) -> None:
        """Create it on the event loop. `protocol` creates a connection's protocol, after its handshake."""
        self._server = server
        self._protocol = protocol
        self._listening = listening
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._closed = False
        listening.setblocking(False)
        self._open()

    def close(self) -> None:
        """Stop accepting clients. Handshakes in progress continue."""
        self._closed = True
        self._loop.remove_reader(self._listening)

    def _open(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        server = self._server
        while True:
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                # Too many files are open. Waiting clients are accepted once others have disconnected.
                log.error("no connection can be accepted", extra={"reason": error.strerror})
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_PAUSE_S, self._open)
                return
            if len(server.connections) + server.handshakes >= server.settings.max_connections:
                connection.close()
                continue
            server.handshakes += 1
            task = self._loop.create_task(self._handshake(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _handshake(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            # Scanners and clients that do not trust the certificate fail here; that is not worth a log line.
            with contextlib.suppress(OSError):
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=self._server.settings.receive_timeout_s,
                    ssl_shutdown_timeout=LINGER_S,
                )
        finally:
            self._server.handshakes -= 1
