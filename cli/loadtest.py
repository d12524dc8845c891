"""`fashion-mnist loadtest`."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from cli import extras
from fashion_mnist import settings_file
from fashion_mnist.settings import CONFIG, PREFIX, Settings
from serving import readiness

GRACE_S = 180
"""Time before and after the test: to start processes, prepare requests and wait for workers."""


def loadtest(
    host: Annotated[str | None, typer.Option(help="The server; by default the one in the settings.")] = None,
    scenario: Annotated[
        str, typer.Option(help="The scenario (requests, clients and thresholds): a name or a YAML file.")
    ] = "steady",
    clients: Annotated[int, typer.Option(help="Scale the scenario to at most this many clients.", min=0)] = 0,
    seconds: Annotated[int, typer.Option(help="Scale the scenario to this total duration.", min=0, max=86400)] = 0,
    grpc: Annotated[str, typer.Option(help="HOST:PORT of gRPC; by default the host with the settings' port.")] = "",
    results: Annotated[Path, typer.Option(help="Folder for the verdict and the reports.")] = Path("loadtest/results"),
    workers: Annotated[int, typer.Option(help="Wait for this many workers, here or on other machines.", min=0)] = 0,
    join: Annotated[str, typer.Option(metavar="MASTER", help="Be a worker of the master at this address.")] = "",
    port: Annotated[int, typer.Option(help="The master's port for its workers.")] = 5557,
) -> None:
    """Load-test a server with test images, using Locust, and check every label.

    The exit status is 1 if a threshold of the scenario is missed. The results are result.json, junit.xml, report.html
    and Locust's own locust.html. `locust -f loadtest/locustfile.py` works, too, with Locust's web page.

    Examples:

    `fashion-mnist loadtest --scenario saturation`

    `fashion-mnist loadtest --host http://192.0.2.7:8080 --workers 2`, and on two other machines
    `fashion-mnist loadtest --join 192.0.2.9`
    """
    # Imported here, because it takes a while.
    from loadtest import preflight, requests
    from loadtest import scenario as scenarios

    extras.require("locust")
    wanted = scenarios.read(scenario).scaled(clients=clients or None, seconds=seconds or None)
    if scenario not in scenarios.names():
        scenario = os.path.abspath(scenario)
    results = results.absolute()
    settings = Settings.from_environment()
    locustfile = Path(__file__).resolve().parent.parent / "loadtest" / "locustfile.py"
    command: list[str | Path] = [sys.executable, "-P", "-m", "locust", "-f", locustfile, "--headless", "--only-summary"]
    if join or not workers:
        requests.load()  # once, before the processes that need it start
    if join:
        command += ["--worker", "--master-host", join, "--master-port", str(port)]
        # A worker ends with its master, which tells it the scenario and the server.
        raise typer.Exit(_run(command, settings, 86400))
    host = host or readiness.own_url(settings).partition(readiness.PATH)[0]
    if not workers:  # workers check the server themselves, which the master might not reach
        kinds = [kind for kind, _ in wanted.mix]
        preflight.check_server(host, grpc or preflight.grpc_address(host, settings.grpc_port), kinds)
    results.mkdir(parents=True, exist_ok=True)
    command += ["--host", host]
    command += ["--scenario", scenario, "--most-clients", str(clients), "--seconds", str(seconds), "--grpc", grpc]
    command += ["--results", results, "--html", results / "locust.html", "--stop-timeout", "10"]
    if workers:
        command += ["--master", "--master-bind-port", str(port), "--expect-workers", str(workers)]
        command += ["--expect-workers-max-wait", "60"]
    raise typer.Exit(_run(command, settings, wanted.seconds))


def _run(command: Sequence[str | Path], settings: Settings, seconds: float) -> int:
    """Run Locust and return its exit status. It needs its own process, because it replaces sockets by gevent's.

    It reads modules, configuration (locust.conf, pyproject.toml, matplotlibrc, ~/.locust.conf) and options (LOCUST_*)
    from its folder and environment: run it in an empty folder, without these variables.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    # Paths relative to the current folder or the home must keep their meaning.
    for row in dataclasses.fields(settings):
        if row.metadata["path"] and getattr(settings, row.name):
            inherited[PREFIX + row.name.upper()] = getattr(settings, row.name)
    if file := settings_file.find(os.environ, CONFIG):
        inherited[CONFIG] = file
    cache = os.path.abspath(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    with TemporaryDirectory(prefix="fashion-mnist-loadtest-") as folder:
        environment = {**inherited, "HOME": folder, "XDG_CACHE_HOME": cache, "PYTHONSAFEPATH": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, timeout=seconds + GRACE_S, check=False)
    return done.returncode
