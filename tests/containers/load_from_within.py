"""Clients within a network of containers, run by a container's Python: they send one image over and over.

The argument is JSON: the host's name, a key, the file of the image, its label, how many clients, and the seconds that
each waits before a request. Whenever a line comes by standard input, and at its end, which ends the clients, prints
what came of the requests as JSON: how many were answered rightly by each address, and each failure.
"""

import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

PORT = 8080
PATH = "/predictions/fashion_mnist"
TIMEOUT_S = 20.0
REQUESTS = 50
"""Of one connection, at most: so that a task which is new gets its share."""


class Clients:
    """Each keeps its connection for a while, or until the server closes it; then it chooses among all addresses."""

    def __init__(self, host: str, key: str, image: str, label: str, clients: int, pause_s: float) -> None:
        self._host, self._label, self._clients, self._pause_s = host, label, clients, pause_s
        self._headers = {"content-type": "image/png", "authorization": f"Bearer {key}"}
        self._body = Path(image).read_bytes()
        self._stop = threading.Event()
        self.right: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self) -> None:
        """Send until the end of standard input."""
        threads = [threading.Thread(target=self._send) for _ in range(self._clients)]
        for thread in threads:
            thread.start()
        while sys.stdin.readline():
            print(json.dumps({"right": self.right, "failures": self.failures}), flush=True)
        self._stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
        print(json.dumps({"right": self.right, "failures": self.failures}), flush=True)

    def _send(self) -> None:
        connection, left = None, 0
        while not self._stop.wait(self._pause_s):
            if connection is None:
                try:
                    # Not by getaddrinfo, which puts the address first that looks nearest.
                    address = random.choice(socket.gethostbyname_ex(self._host)[2])
                except OSError as error:
                    self._fail(self._host, repr(error))
                    continue
                connection, left = http.client.HTTPConnection(address, PORT, timeout=TIMEOUT_S), REQUESTS
            left -= 1
            if not self._ask(connection) or not left:
                connection.close()
                connection = None

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """Send one request, and count what came of it; whether the connection can be used again."""
        try:
            connection.request("POST", PATH, self._body, self._headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._fail(connection.host, repr(error))
            return False
        if response.status == http.client.OK and json.loads(content)["predictions"][0]["label"] == self._label:
            self.right[connection.host] += 1
        else:
            self._fail(connection.host, f"{response.status} {content[:200]!r}")
        return not response.will_close

    def _fail(self, where: str, what: str) -> None:
        self.failures.append(f"{time.time():.3f} {where}: {what}")


if __name__ == "__main__":
    Clients(**json.loads(sys.argv[1])).run()
