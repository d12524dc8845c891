"""A socket whose clients speak TLS. Who has connected and does not shake hands counts as a connection, too."""

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
    """Accepts clients from its beginning until it is closed."""

    def __init__(
        self,
        server: Server,
        protocol: Callable[[], asyncio.Protocol],
        listening: socket.socket,
        context: ssl.SSLContext,
    ) -> None:
        """To be made on the event loop. `protocol` makes a connection's, which begins when hands are shaken."""
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
        """Accept nobody else. Handshakes that have begun go on."""
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
                # Of open files there are as many as may be. Those who wait are served when others have gone.
                log.error("nobody can be accepted", extra={"reason": error.strerror})
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_PAUSE_S, self._open)
                return
            if len(server.connections) + server.handshakes >= server.settings.max_connections:
                connection.close()
                continue
            server.handshakes += 1
            task = self._loop.create_task(self._shake_hands(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            # Most who fail at it are scanners, or do not trust the certificate: they know why.
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
