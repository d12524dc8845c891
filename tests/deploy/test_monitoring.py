"""What deploy/monitoring promises, as far as it can be read: rules by promtool, dashboards by Grafana's own types."""

import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.dashboards import ALL, FOLDER, promql
from deploy.monitoring.dashboards.render import SOURCE, text
from fashion_mnist.errors import FashionMNISTError, InputError, Overloaded, Unavailable
from fashion_mnist.settings import Settings
from gateway.observability.metrics import CODES, SECONDS
from tests.environments import LOCKS, programs
from tests.support.command import COMMAND, serve_command, wait_until
from tests.support.prometheus import configuration_text, prometheus

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = MONITORING / "prometheus" / "rules.yml"
TIMEOUT_S = 60

COLLECTOR_KEYS = {
    "otlp": {"protocols"},
    "memory_limiter": {"check_interval", "limit_mib", "spike_limit_mib", "limit_percentage", "spike_limit_percentage"},
    "batch": {"timeout", "send_batch_size", "send_batch_max_size", "metadata_keys", "metadata_cardinality_limit"},
    "otlp_grpc": {"endpoint", "tls", "headers", "compression", "timeout", "sending_queue", "retry_on_failure"},
    "health_check": {"endpoint", "path", "tls", "response_body"},
}
"""Keys of the components of the collector's core distribution that are used here, by its config.schema.yaml files."""


def promtool(*arguments: str) -> None:
    """Run it beside the rules; fails with what it said."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    command = ["promtool", *arguments]
    done = subprocess.run(command, cwd=RULES.parent, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards as Grafana reads them, by file name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def test_configuration_and_rules_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "rules.yml")


def test_alerts_fire_when_they_must_and_not_otherwise() -> None:
    promtool("test", "rules", "rules_test.yml")
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load((RULES.parent / "rules_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert set(cases) == set(itertools.product(alerts(), (True, False))), "each alert needs a case that sets it off"


def test_each_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)\n\n(Page|Ticket)\.", (ROOT / "deploy" / "RUNBOOK.md").read_text(), re.MULTILINE)
    assert sections == [(name, rule["labels"]["severity"].title()) for name, rule in alerts().items()]
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{name.lower()}"


def test_rules_and_dashboards_mean_the_same_errors_and_promises() -> None:
    """What is the sender's and what is ours stands in the errors' classes."""

    def below(error: type[FashionMNISTError]) -> set[str]:
        return {error.code}.union(*map(below, error.__subclasses__()))

    ours = set(CODES) - {"ok"} - (below(InputError) - {Overloaded.code, Unavailable.code})
    for matcher in (promql.FAILED, *re.findall(r'code=~"[^"]*"', RULES.read_text())):
        assert set(matcher.split('"')[1].split("|")) == ours
    assert promql.FAILED.replace('=~"', '!~"ok|') == promql.REFUSED
    assert float(promql.IN_TIME.split('"')[1]) in SECONDS, "a bucket must end there"
    assert set(re.findall(r'le="[\d.]+"', RULES.read_text())) == {promql.IN_TIME}
    for series, share in {"failures": promql.FAILURES_PROMISED, "slow": promql.LATE_PROMISED}.items():
        assert set(re.findall(rf"_{series}:ratio_rate\w+ > \S+ \* ([\d.]+)", RULES.read_text())) == {share}


def test_what_is_promised_and_what_is_bounded_is_the_same_wherever_it_stands() -> None:
    rules, runbook = RULES.read_text(), (ROOT / "deploy" / "RUNBOOK.md").read_text()
    panels = "".join(map(text, ALL))
    assert set(re.findall(r"\* (0\.0+1)\b", rules)) == set(re.findall(r"/ (0\.0+1)\b", panels))
    images, mebibytes = f"{Settings().max_queued_images:,}", f"{Settings().max_buffered_bytes >> 20} MiB"
    assert f"each gateway refuses requests from {images} on" in alerts()["QueueLong"]["annotations"]["description"]
    assert f"a gateway refuses more than {images}." in panels
    assert f"a gateway refuses more than {mebibytes}." in panels
    words = {
        "P99High": "longer than {:g} s",
        "QueueLong": "More than {:,.0f} images",
        "RequestsRefused": "More than {:%} of",
    }
    for name, form in words.items():
        (threshold,) = re.findall(r"> ([\d.]+)$", alerts()[name]["expr"].strip())
        said = form.replace("{:%}", "{:g} %").format(100 * float(threshold) if "%" in form else float(threshold))
        assert f"## {name}\n\n" in runbook
        assert said in runbook.partition(f"## {name}\n\n")[2].partition("\n## ")[0]


def test_dashboards_are_those_of_the_table() -> None:
    for dashboard in ALL:
        written = (FOLDER / f"{dashboard.name}.json").read_text()
        assert written == text(dashboard), "run `make dashboards`"
    assert set(dashboards()) == {dashboard.name for dashboard in ALL}


def test_grafana_knows_every_key_of_the_dashboards(tmp_path: Path) -> None:
    mistaken = dashboards()["service"]
    mistaken["panels"][1]["options"]["colourMode"] = "value"
    (tmp_path / "mistaken.json").write_text(json.dumps(mistaken))

    def faults(*files: Path) -> str:
        command: list[str | Path] = [programs("grafana") / "python", "-P", LOCKS / "grafana_schemas.py", *files]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert not done.stderr
        return done.stdout.strip()

    assert faults(*FOLDER.glob("*.json")) == ""
    assert faults(tmp_path / "mistaken.json") == "mistaken.json.panels[1].options.colourMode is unknown"


@pytest.mark.parametrize("name", [dashboard.name for dashboard in ALL])
def test_panels_say_what_they_show(name: str) -> None:
    panels = [panel for panel in dashboards()[name]["panels"] if panel["type"] != "row"]
    places: set[tuple[int, int]] = set()
    for panel in panels:
        defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults.get("unit") or options["yAxis"]["unit"], panel["title"]
        assert panel["datasource"] == SOURCE
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & places, f"{panel['title']} lies upon another"
        assert max(x for x, _ in cells) < 24
        places |= cells
    assert len({panel["id"] for panel in dashboards()[name]["panels"]}) == len(dashboards()[name]["panels"])


def test_grafana_is_provisioned_with_what_dashboards_name() -> None:
    sources = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/datasources.yml").read_text())
    source, _ = sources["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    configuration = yaml.safe_load((MONITORING / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == configuration["global"]["scrape_interval"]


def test_compose_mounts_what_the_configurations_name() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    services = {name: compose[name] for name in ("prometheus", "grafana", "collector", "jaeger")}
    for name, service in services.items():
        assert service["profiles"] == ["monitoring"], name
        assert service["read_only"] is True, name
        assert re.fullmatch(r"[\w./-]+:\d+(\.\d+)+|fashion-mnist:prometheus", service["image"]), "pinned by its version"
        for mount in service["volumes"] if name != "jaeger" else []:
            source, _, options = mount.partition(":")
            assert not source.startswith("./") or ((ROOT / source).exists() and options.endswith(":ro")), mount
    grafana = services["grafana"]
    (provider,) = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/dashboards.yml").read_text())[
        "providers"
    ]
    assert f"./{FOLDER.relative_to(ROOT)}:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / Path(home).relative_to(provider["options"]["path"])).exists()
    assert not [variable for variable in grafana["environment"] if "PASSWORD" in variable]
    scraped = yaml.safe_load((MONITORING / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    names = [name for job in scraped for found in job.get("dns_sd_configs", []) for name in found["names"]]
    assert set(names) <= set(compose)


def test_prometheus_gets_in_where_keys_are_asked_for(tmp_path: Path) -> None:
    keys, key = tmp_path / "keys.json", tmp_path / "prometheus.key"
    create: list[str | Path] = [COMMAND, "keys", "create", "--name", "prometheus", "--scope", "admin", "--file", keys]
    key.write_text(subprocess.run(create, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout)
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_KEY_FILE=str(keys)) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        target = f"127.0.0.1:{command.state().admin_port}"
        with prometheus(tmp_path, target) as without:
            wait_until(lambda: without.ask("up == 0"), "a scrape that is refused", 20)
        with prometheus(tmp_path, target, key) as allowed:
            wait_until(lambda: allowed.ask("up == 1"), "a scrape", 20)
    base, with_key = (yaml.safe_load(configuration_text(with_key=each)) for each in (False, True))
    authorization = with_key["scrape_configs"][0].pop("authorization")
    assert with_key == base
    secrets = yaml.safe_load((ROOT / "compose.auth.yml").read_text())["services"]["prometheus"]["secrets"]
    assert authorization == {"credentials_file": f"/run/secrets/{secrets[0]}"}


def test_the_collector_has_what_its_pipelines_name() -> None:
    """As its documentation wants it: what a pipeline or `service` names is configured, and nothing else is."""
    configuration = yaml.safe_load((MONITORING / "collector/config.yml").read_text())
    pipelines = configuration["service"]["pipelines"]
    assert list(pipelines) == ["traces"], "metrics go to Prometheus by the server's own page"
    for part in ("receivers", "processors", "exporters"):
        assert pipelines["traces"][part] == list(configuration[part]), part
    assert configuration["service"]["extensions"] == list(configuration["extensions"])
    for part in ("receivers", "processors", "exporters", "extensions"):
        for name, settings in configuration[part].items():
            assert settings.keys() <= COLLECTOR_KEYS[name.partition("/")[0]], name
    assert pipelines["traces"]["processors"][0] == "memory_limiter", "its documentation wants it first"
    limits = configuration["processors"]["memory_limiter"]
    assert limits["spike_limit_mib"] < limits["limit_mib"]
