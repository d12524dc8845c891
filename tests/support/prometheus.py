"""A real Prometheus, and what Grafana would ask it for each panel."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.monitoring.dashboards import FOLDER
from serving.config import free_ports
from tests.support.command import wait_until

MONITORING = FOLDER.parents[1]
TIMEOUT_S = 10.0
SCRAPE_S = 1


@dataclass(frozen=True)
class Panel:
    """A panel as its dashboard has it; `row` is the title of the row that it stands in."""

    dashboard: str
    row: str
    title: str
    queries: tuple[tuple[str, str], ...]
    """Pairs of PromQL and legend."""

    @property
    def key(self) -> str:
        """A name of its own."""
        return f"{self.dashboard}/{self.row}/{self.title}"


def panels() -> list[Panel]:
    """Those of all dashboards, of the files that Grafana reads."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        row = ""
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
            else:
                queries = tuple((target["expr"], target["legendFormat"]) for target in panel["targets"])
                found.append(Panel(path.stem, row, panel["title"], queries))
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def ask(self, query: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """The answer to a query as of a time, by default now: labels and values."""
        moment = {} if at is None else {"time": str(at)}
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": query, **moment}, timeout=TIMEOUT_S)
        found: dict[str, Any] = answer.json()
        assert found["status"] == "success", f"{query}: {found.get('error')}"
        if found["data"]["resultType"] == "scalar":
            return [({}, float(found["data"]["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in found["data"]["result"]]

    def value(self, query: str) -> float:
        """The one value of a query; 0 where there is none yet."""
        return sum(value for _, value in self.ask(query))

    def panel(self, panel: Panel, window_s: int, at: float | None = None) -> dict[str, float]:
        """What a panel shows at a time, by default now, by legend, where Grafana's window is of so many seconds."""
        shown: dict[str, float] = {}
        for query, legend in panel.queries:
            for variable, set_to in {"$__rate_interval": f"{window_s}s", "$server": ".*"}.items():
                query = query.replace(variable, set_to)
            assert "$" not in query, f"{panel.key} has a variable that Grafana does not set"
            for labels, value in self.ask(query, at):
                shown[_filled_in(legend, labels)] = value
        return shown


def _filled_in(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


def configuration_text(*, with_key: bool) -> str:
    """prometheus.yml, or what the image makes of it for a server that asks for keys."""
    path = MONITORING / "prometheus" / "prometheus.yml"
    if not with_key:
        return path.read_text()
    edit = re.search(r"sed '([^']+)' prometheus\.yml", (MONITORING / "Dockerfile").read_text())
    assert edit is not None
    return subprocess.run(["sed", edit[1], path], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout


@contextmanager
def prometheus(folder: Path, target: str, key_file: Path | None = None) -> Iterator[Prometheus]:
    """Start one with the repository's configuration, but for what is scraped and how often; ends with the block.

    With a key's file it sends that, as compose.auth.yml wants it.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    configuration = yaml.safe_load(configuration_text(with_key=key_file is not None))
    seconds = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{SCRAPE_S}s")
    configuration["global"] |= seconds
    (job,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "fashion-mnist")
    job["static_configs"] = [{"targets": [target]}]
    del job["dns_sd_configs"]
    if key_file is not None:
        job["authorization"]["credentials_file"] = str(key_file)
    configuration["scrape_configs"] = [job]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    shutil.copyfile(MONITORING / "prometheus" / "rules.yml", folder / "rules.yml")
    (port,) = free_ports(1)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    started = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: process.poll() is not None or _ready(started), "Prometheus", TIMEOUT_S)
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield started
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def _ready(started: Prometheus) -> bool:
    try:
        return httpx.get(f"{started.url}/-/ready", timeout=TIMEOUT_S).status_code == 200
    except httpx.TransportError:
        return False
