"""The limit: an event loop that reads and writes, and does nothing between. No server in Python on it is faster."""

import asyncio
import socket
import sys

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 300\r\n\r\n" + b" " * 300


class Constant(asyncio.Protocol):
    """Takes whatever comes at once for one request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to write to."""
        self._write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._write(ANSWER)


async def main(descriptor: int) -> None:
    """Serve until killed, on a listening socket that was inherited."""
    server = await asyncio.get_running_loop().create_server(Constant, sock=socket.socket(fileno=descriptor))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
