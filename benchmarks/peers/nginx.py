"""The limit: nginx, which reads a request and answers the same to everything, from memory."""

import getpass
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.peers.applications import wait_until_right
from benchmarks.peers.kinds import Kind
from benchmarks.servers import Server
from fashion_mnist.classes import CLASSES
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import HEALTH_IMAGE
from serving import config, readiness

_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_CONFIGURATION: Final = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
{temporary}
  keepalive_requests 1000000000;
  server {{
    listen {host}:{port};
    default_type application/json;
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, kind: Kind) -> Iterator[Server]:
    """nginx with one worker, in a folder of its own. Raises UsageError where it is not installed."""
    # Debian has it where only root looks.
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise UsageError("nginx is not installed: apt-get install nginx-light")
    folder.mkdir(exist_ok=True)
    port = config.free_ports(1)[0]
    index = CLASSES.index(HEALTH_IMAGE[1])
    probabilities = dict.fromkeys(CLASSES, 0.1)
    answer = {"predictions": [{"label": HEALTH_IMAGE[1], "index": index, "probabilities": probabilities}]}
    (folder / "nginx.conf").write_text(
        _CONFIGURATION.format(
            # Its worker is not root's, and so could not read this folder.
            user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
            folder=folder,
            temporary="\n".join(f"  {name}_temp_path {folder}/{name};" for name in _TEMPORARY),
            host=config.LOOPBACK,
            port=port,
            answer=json.dumps(answer),
        )
    )
    url = readiness.url(config.LOOPBACK, port)
    command: list[str | Path] = [program, "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"]
    with servers.started(command, os.environ, folder) as process:
        wait_until_right(url, kind, lambda: process.poll() is None)
        yield Server(url, process.pid)
