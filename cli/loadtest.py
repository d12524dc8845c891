"""`fashion-mnist loadtest`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from fashion_mnist.settings import Settings
from serving import readiness


def loadtest(
    host: Annotated[str | None, typer.Option(help="The server; by default the one of the settings.")] = None,
    users: Annotated[int, typer.Option(help="Clients at once.")] = 16,
    seconds: Annotated[int, typer.Option(help="How long.", min=1, max=3600)] = 10,
) -> None:
    """Load a server with real test images by Locust. Exit status 1 on any failure or wrong label.

    Plain `locust -f loadtest/locustfile.py` works too, with Locust's web page.

    Example: `fashion-mnist loadtest --users 64 --seconds 30`
    """
    settings = Settings.from_environment()
    locustfile = Path(__file__).resolve().parent.parent / "loadtest" / "locustfile.py"
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--only-summary"]
    command += [
        "--host",
        host or readiness.url(settings.host, settings.port).removesuffix(readiness.PATH),
    ]
    command += ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s", "--stop-timeout", "10"]
    # In a process of its own, because Locust replaces the standard library's sockets by gevent's.
    raise typer.Exit(subprocess.run(command, timeout=seconds + 120, check=False).returncode)
