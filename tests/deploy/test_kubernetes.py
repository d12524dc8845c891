"""What deploy/kubernetes/ asks of a cluster: rendered by kubectl, held against the schemas and what the server does.

No cluster runs here: what an API server, a scheduler, an autoscaler or KServe make of it is not tested.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from fashion_mnist.errors import UsageError
from fashion_mnist.settings import PREFIX, Settings
from gateway.models.engines.embedded import CPU_BATCH
from gateway.process.supervisor import KILL_S
from tests.environments import LOCKS, programs
from tests.support.command import ServeCommand

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu", "embedded", "kserve")
VERSIONS = ("1.27", "1.37")
"""The first that has every field which is used here, and the newest whose schemas there are."""
TIMEOUT_S = 60

Object: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    """What `kubectl apply --kustomize` would send, by overlay."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: apt-get install kubernetes-client")
    found = {}
    for overlay in OVERLAYS:
        command: list[str | Path] = ["kubectl", "kustomize", KUBERNETES / "overlays" / overlay]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stderr
        found[overlay] = list(yaml.safe_load_all(done.stdout))
    return found


@pytest.fixture(params=["cpu", "gpu", "embedded"])
def objects(request: pytest.FixtureRequest, rendered: dict[str, list[Object]]) -> list[Object]:
    """The objects of each overlay that is a Deployment of ours."""
    return rendered[request.param]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def pod(objects: list[Object]) -> Object:
    """The pods' specification; KServe merges that of the ServingRuntime with that of the InferenceService."""
    if any(each["kind"] == "Deployment" for each in objects):
        found: Object = only(objects, "Deployment")["spec"]["template"]["spec"]
        return found
    return {**only(objects, "ServingRuntime")["spec"], **only(objects, "InferenceService")["spec"]["predictor"]}


def settings(objects: list[Object]) -> Settings:
    """What the container's environment says. Raises UsageError for a variable that is no setting."""
    (container,) = pod(objects)["containers"]
    environment = {each["name"]: each["value"] for each in container.get("env", [])}
    for source in container.get("envFrom", []):
        assert source["configMapRef"]["name"] == only(objects, "ConfigMap")["metadata"]["name"]
        environment |= only(objects, "ConfigMap")["data"]
    return Settings.from_environment(environment)


def test_schemas_know_every_field(rendered: dict[str, list[Object]]) -> None:
    every = [each for objects in rendered.values() for each in objects]
    command: list[str | Path] = [programs("kubernetes") / "python", "-P", LOCKS / "kubernetes_schemas.py"]
    command += [Path(__file__).parent / "kserve.json", *VERSIONS]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def validate(objects: list[Object]) -> list[str]:
        done = subprocess.run(
            command, env=environment, input=json.dumps(objects), capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stderr
        lines: list[str] = json.loads(done.stdout)
        return lines

    assert validate(every) == []
    for kind in ("Deployment", "InferenceService"):
        mistaken = only(rendered["kserve" if kind == "InferenceService" else "cpu"], kind)
        mistaken = {**mistaken, "spec": {**mistaken["spec"], "replica": 2}}
        assert len(validate([mistaken])) == len(VERSIONS), "a field that does not exist must be noticed"


@pytest.mark.parametrize(
    ("overlay", "tag", "engine", "device"),
    [
        ("cpu", "torchserve-cpu", "torchserve", "cpu"),
        ("gpu", "torchserve-gpu", "torchserve", "cuda"),
        ("embedded", "embedded", "embedded", "cpu"),
        ("kserve", "embedded", "embedded", "cpu"),
    ],
)
def test_each_overlay_runs_its_image_with_its_settings(
    rendered: dict[str, list[Object]], overlay: str, tag: str, engine: str, device: str
) -> None:
    objects = rendered[overlay]
    (container,) = pod(objects)["containers"]
    found = settings(objects)
    assert (container["image"], found.engine, found.device) == (f"fashion-mnist:{tag}", engine, device)
    gpus = container["resources"]["limits"].get("nvidia.com/gpu")
    assert gpus == ("1" if overlay == "gpu" else None)


def test_no_variable_of_a_service_is_taken_for_a_setting(rendered: dict[str, list[Object]]) -> None:
    with pytest.raises(UsageError):
        Settings.from_environment({f"{PREFIX}SERVICE_HOST": "10.0.0.1"})
    for objects in rendered.values():
        assert pod(objects)["enableServiceLinks"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_may_do_nothing_but_serve(rendered: dict[str, list[Object]], overlay: str) -> None:
    spec = pod(rendered[overlay])
    assert spec["automountServiceAccountToken"] is False
    user = spec["securityContext"]
    assert (user["runAsNonRoot"], user["runAsUser"], user["fsGroup"]) == (True, 10001, 10001)
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    labels = only(rendered[overlay], "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_keys_are_asked_for_and_come_from_a_secret(rendered: dict[str, list[Object]], overlay: str) -> None:
    found, spec = settings(rendered[overlay]), pod(rendered[overlay])
    (mount,) = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "keys"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "keys"]
    assert found.auth == "auto"
    assert Path(found.key_file).parent == Path(mount["mountPath"])
    assert volume["secret"]["secretName"] == "fashion-mnist-keys"
    assert volume["secret"]["defaultMode"] == 0o440, "the group is the pod's fsGroup"
    assert not [each for each in rendered[overlay] if each["kind"] == "Secret"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_rolling_update_loses_no_request(rendered: dict[str, list[Object]], overlay: str) -> None:
    objects, found = rendered[overlay], settings(rendered[overlay])
    spec = pod(objects)
    if overlay == "kserve":
        strategy = spec["deploymentStrategy"]
    else:
        deployment = only(objects, "Deployment")["spec"]
        strategy = deployment["strategy"]
        assert "replicas" not in deployment, "an update would undo what the autoscaler did"
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    (container,) = spec["containers"]
    ready = container["readinessProbe"]
    # A load balancer that asks as often as the kubelet does has noticed before the last new connection is taken.
    assert found.drain_s > ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"]
    assert found.shutdown_timeout_s >= found.drain_s + Settings().shutdown_timeout_s, "time for what was sent last"
    assert spec["terminationGracePeriodSeconds"] > found.shutdown_timeout_s + KILL_S + Settings().shutdown_timeout_s
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > found.startup_timeout_s


def test_probes_ask_what_the_gateway_answers(rendered: dict[str, list[Object]], embedded: ServeCommand) -> None:
    asked = set()
    for objects in rendered.values():
        (container,) = pod(objects)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for kind, word in (("startupProbe", "startup"), ("readinessProbe", "ready"), ("livenessProbe", "live")):
            get = container[kind]["httpGet"]
            assert ports.get(get["port"], get["port"]) == Settings().port
            assert get["path"].endswith(f"/health/{word}")
            asked.add(get["path"])
    for path in asked:
        assert httpx.get(f"{_base(embedded.url)}{path}", timeout=10).status_code == 200, path


def test_autoscaler_asks_for_a_metric_that_there_is(objects: list[Object], embedded: ServeCommand) -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    autoscaler = only(objects, "HorizontalPodAutoscaler")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == only(objects, "Deployment")["metadata"]["name"]
    (queue,) = [each["pods"] for each in autoscaler["metrics"] if each["type"] == "Pods"]
    name = queue["metric"]["name"]
    assert int(queue["target"]["averageValue"]) == CPU_BATCH
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(f"{name}{{")
    metrics = httpx.get(f"http://127.0.0.1:{embedded.state().admin_port}/metrics", timeout=10).text
    assert f"# TYPE {name} gauge" in metrics


def test_every_selector_finds_the_pods(objects: list[Object]) -> None:
    labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (policy,) = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy" and each["spec"]["podSelector"]]
    selectors = [
        only(objects, "Service")["spec"]["selector"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in pod(objects)["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_admin_port_is_for_monitoring_alone(rendered: dict[str, list[Object]], overlay: str) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in rendered[overlay] if each["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ours = policies["fashion-mnist"]
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    found = Settings()
    assert [rule["from"] for rule in ours["ingress"] if {"port": found.admin_port} in rule["ports"]] == [[monitoring]]
    api = [{"port": found.port}, {"port": found.grpc_port}]
    assert [rule["ports"] for rule in ours["ingress"]] == [api, [{"port": found.admin_port}]]
    assert sorted(port["port"] for rule in ours["egress"] for port in rule["ports"]) == [53, 53, 4318]
    for service in (each for each in rendered[overlay] if each["kind"] == "Service"):
        assert [port["port"] for port in service["spec"]["ports"]] == [found.port, found.grpc_port]


def test_kserve_finds_the_runtime_and_both_protocols(rendered: dict[str, list[Object]]) -> None:
    service = only(rendered["kserve"], "InferenceService")
    runtime = only(rendered["kserve"], "ServingRuntime")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] in runtime["spec"]["supportedModelFormats"]
    assert runtime["spec"]["protocolVersions"] == ["v2", "grpc-v2"]
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container", "the one that KServe takes for the model's"
    policies = [each["spec"]["podSelector"] for each in rendered["kserve"] if each["kind"] == "NetworkPolicy"]
    # KServe gives the pods the labels of the InferenceService.
    assert {"matchLabels": service["metadata"]["labels"]} in policies
    assert [port["containerPort"] for port in container["ports"]] == [Settings().port, Settings().grpc_port]


def test_prometheus_accepts_how_pods_are_read(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    (job,) = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus.yaml").read_text())["scrape_configs"]
    # Debian builds Prometheus without the discovery of pods.
    (discovery,) = job.pop("kubernetes_sd_configs")
    assert discovery == {"role": "pod", "namespaces": {"names": ["fashion-mnist"]}}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    (rule,) = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    query = rule["metricsQuery"]
    values = {"Series": rule["name"]["as"], "LabelMatchers": 'namespace="fashion-mnist"', "GroupBy": "pod"}
    for name, value in values.items():
        query = query.replace(f"<<.{name}>>", value)
    recorded = {"groups": [{"name": "adapter", "rules": [{"record": "waiting", "expr": query}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(recorded))
    # The file of the key is in the cluster, so only the syntax.
    for check in (["config", "--syntax-only", "prometheus.yml"], ["rules", "rules.yml"]):
        command = ["promtool", "check", *check]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
