"""The Locust users: they pass against the real server and fail on wrong labels, however fast they come."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.gateway.command import COMMAND
from tests.serving.server import RunningServer

LOCUSTFILE = Path(__file__).parents[2] / "loadtest" / "locustfile.py"


def locust(host: str, seconds: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", host, "--users", "8"]
    command += ["--spawn-rate", "8", "--run-time", f"{seconds}s", "--stop-timeout", "10", "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)


def test_ten_seconds_against_the_real_server(torchserve: RunningServer) -> None:
    done = locust(torchserve.url.removesuffix("/predictions/fashion_mnist"), 10)
    assert done.returncode == 0, done.stderr[-3000:]
    statistics = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(statistics) == {"png", "raw", "raw x 64"}
    assert all(row["num_requests"] > 10 and row["num_failures"] == 0 for row in statistics.values())


class Constant(BaseHTTPRequestHandler):
    """A server that takes everything for a bag."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps({"predictions": [{"label": "Bag"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_wrong_label_is_a_failure() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Constant) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            done = locust(f"http://127.0.0.1:{server.server_port}", 2)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode != 0
    assert "wrong label" in done.stderr + done.stdout


def test_no_server_is_a_failure_of_the_command() -> None:
    done = subprocess.run(
        [COMMAND, "loadtest", "--host", "http://127.0.0.1:9", "--seconds", "1", "--users", "2"],
        capture_output=True,
        env={**os.environ},
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
