"""A server of HTTP/2 that does what a test says, however odd, with h2 to speak for it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

IDLE_S = 0.05


class Peer:
    """One client's connection, from the server's side."""

    def __init__(self, sock: socket.socket, settings: dict[h2.settings.SettingCodes, int]) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        self.waiting: list[int] = []
        """Streams whose request is whole, in the order in which they came."""
        self.received: dict[int, bytes] = {}
        self.reset: set[int] = set()
        """Streams that the client has taken back."""
        self.most_open = 0
        self._sock = sock

    def answer(self, stream: int, body: bytes, *, padding: int | None = None, trailer: str = "") -> None:
        """A message, and status 0 behind it."""
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self.h2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body, pad_length=padding)
        trailers = [("x-odd", trailer)] if trailer else []
        self.h2.send_headers(stream, [*trailers, ("grpc-status", "0")], end_stream=True)
        if stream in self.waiting:
            self.waiting.remove(stream)

    def say(self, frame: bytes) -> None:
        """Send a frame of the test's own, behind what was said before."""
        self._sock.sendall(self.h2.data_to_send() + frame)

    def run(self, script: "Callable[[Peer, h2.events.Event | None], None]") -> None:
        """Tell the script of each event, and of None when for a moment there was none."""
        self._sock.settimeout(IDLE_S)
        while True:
            if content := self.h2.data_to_send():
                self._sock.sendall(content)
            try:
                data = self._sock.recv(65_536)
            except TimeoutError:
                script(self, None)
                continue
            if not data:
                return
            for event in self.h2.receive_data(data):
                self._note(event)
                script(self, event)

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.stream_id is not None
            self.received[event.stream_id] = b""
            self.most_open = max(self.most_open, self.h2.open_inbound_streams)
        elif isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            assert event.data is not None
            self.received[event.stream_id] += event.data
        elif isinstance(event, h2.events.StreamEnded):
            assert event.stream_id is not None
            self.waiting.append(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            assert event.stream_id is not None
            self.reset.add(event.stream_id)


Script = Callable[[Peer, "h2.events.Event | None"], None]


@contextmanager
def scripted(script: Script | None, **settings: int) -> Iterator[tuple[str, list[Peer]]]:
    """Such a server's address, and its connections as they come. Without a script it never says a word."""
    chosen = {h2.settings.SettingCodes[name]: value for name, value in settings.items()}
    peers: list[Peer] = []
    socks: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(sock: socket.socket) -> None:
        peer = Peer(sock, chosen)
        peers.append(peer)
        assert script is not None
        try:
            peer.run(script)
        except OSError:
            pass  # the client, or the test, is at its end
        finally:
            sock.close()

    def accept() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            socks.append(sock)
            if script is not None:
                threads.append(threading.Thread(target=serve, args=(sock,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", peers
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for sock in socks:
                sock.close()
            for thread in threads:
                thread.join()
