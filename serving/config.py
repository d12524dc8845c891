"""TorchServe's configuration, in a folder of each run. docs/explanation/torchserve.md says why each line is there."""

import importlib.util
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from fashion_mnist.errors import ServingError
from fashion_mnist.handler_interface import metrics
from fashion_mnist.settings import PREFIX, Settings

LOOPBACK: Final = "127.0.0.1"
ARCHIVE: Final = "model.mar"
"""Whatever the model is called: its name is in the archive."""

FRONT_MAX_REQUEST_BYTES: Final = 128 * 2**20
"""TorchServe's own limit, whose answer is a bare 413: high, so that the handler refuses, with a reason."""

KEY_LIFETIME_MIN: Final = 10 * 365 * 24 * 60
"""TorchServe's keys are of one run, which is to end before they do."""

_HEADROOM: Final = 1024


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, for its user alone. Short paths: those of Unix sockets have 107 characters at most."""

    path: Path

    @property
    def properties(self) -> Path:
        """TorchServe's config.properties."""
        return self.path / "config.properties"

    @property
    def log_configuration(self) -> Path:
        """The logging of TorchServe's Java side and, through it, of its workers."""
        return self.path / "log4j2.xml"

    @property
    def metrics_configuration(self) -> Path:
        """The metrics that exist."""
        return self.path / "metrics.yaml"

    @property
    def log(self) -> Path:
        """Where everything is logged: two files of 5 MB at most."""
        return self.path / "torchserve.log"

    @property
    def gc_log(self) -> Path:
        """Where the JVM tells of its garbage collections."""
        return self.path / "gc.log"

    @property
    def inference(self) -> Path:
        """The Unix socket that takes images."""
        return self.path / "inference.sock"

    @property
    def management(self) -> Path:
        """The Unix socket of the management API."""
        return self.path / "management.sock"

    @property
    def metrics(self) -> Path:
        """The Unix socket of the metrics."""
        return self.path / "metrics.sock"

    @property
    def keys(self) -> Path:
        """Where TorchServe writes the keys that it asks for, new ones at each start."""
        return self.path / "key_file.json"

    def authorization(self) -> str:
        """The header's value with the key of inference; "" where there is none (yet)."""
        try:
            return f"Bearer {json.loads(self.keys.read_text())['inference']['key']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def store(self) -> Path:
        """The folder with the archive."""
        return self.path / "store"

    @property
    def temporary(self) -> Path:
        """TorchServe's own temporary folder."""
        return self.path / "tmp"


def torchserve_folder() -> Path:
    """Where the package `ts` is installed; it is not imported, which would bring torch along."""
    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        raise ServingError("torchserve is not installed: run `make setup`")
    return Path(spec.submodule_search_locations[0])


def write(folder: RunFolder, settings: Settings, port: int) -> None:
    """Write the configuration of one run into its folder.

    With a `port` TorchServe takes images there, on loopback and without a key; else at the socket `folder.inference`.
    """
    folder.store.mkdir(parents=True)
    folder.temporary.mkdir()
    lines = [f"{name}={_java_value(str(value))}" for name, value in _properties(folder, settings, port).items()]
    folder.properties.write_text("\n".join(lines) + "\n", "ascii")
    folder.log_configuration.write_text(_LOG4J2.format(log=folder.log.name), "ascii")
    folder.metrics_configuration.write_text(yaml.safe_dump(_metrics()))


def jvm_arguments(settings: Settings) -> list[str]:
    """The JVM's flags: one core's worth of collector and compiler threads, and an end where memory is short."""
    return [
        f"-Xmx{settings.jvm_heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-XX:TieredStopAtLevel=1",
        f"-Xms{settings.jvm_heap_mib // 2}m",
        f"-Xmn{settings.jvm_heap_mib // 4}m",
        "-Xshare:auto",
    ]


def _properties(folder: RunFolder, settings: Settings, port: int) -> dict[str, Any]:
    grpc_inference, grpc_management = free_ports(2)
    properties = {
        "inference_address": f"http://{LOOPBACK}:{port}" if port else f"unix:{folder.inference}",
        "management_address": f"unix:{folder.management}",
        "metrics_address": f"unix:{folder.metrics}",
        "grpc_inference_address": LOOPBACK,
        "grpc_management_address": LOOPBACK,
        # gRPC cannot be turned off, nor be had at a Unix socket: everybody on the machine reaches it, and needs a key.
        "grpc_inference_port": grpc_inference,
        "grpc_management_port": grpc_management,
        "enable_model_api": "false",
        "disable_token_authorization": "true" if port else "false",
        "token_expiration_min": KEY_LIFETIME_MIN,
        "allowed_urls": f"file://{re.escape(str(folder.store))}/.*",
        "model_store": folder.store,
        "load_models": ARCHIVE,
        "default_workers_per_model": settings.workers,
        "default_response_timeout": settings.response_timeout_s,
        "default_startup_timeout": settings.startup_timeout_s,
        "job_queue_size": settings.queue_size,
        "max_request_size": max(FRONT_MAX_REQUEST_BYTES, settings.max_body_bytes + _HEADROOM),
        # Ten probabilities as JSON take some 370 bytes an image.
        "max_response_size": settings.max_images * 512 + _HEADROOM,
        "number_of_netty_threads": 1,
        "netty_client_threads": 1,
        "decode_input_request": "false",
        "async_logging": "true",
        "disable_system_metrics": "true",
        "metrics_mode": "prometheus",
        "metrics_config": folder.metrics_configuration,
        "install_py_dep_per_model": "false",
    }
    if settings.device == "cpu":
        properties["number_of_gpu"] = 0
    return properties


def _java_value(text: str) -> str:
    """A value as java.util.Properties reads it: ISO-8859-1, with escapes for all else."""
    units = text.replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    characters = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(unit) if 0x20 <= unit < 0x7F else f"\\u{unit:04x}" for unit in characters)


def _metrics() -> dict[str, Any]:
    """TorchServe's own metrics and ours."""
    configuration: dict[str, Any] = yaml.safe_load((torchserve_folder() / "configs" / "metrics.yaml").read_text())
    counters = configuration["model_metrics"].setdefault("counter", [])
    for name in (metrics.IMAGES, metrics.REFUSED):
        counters.append({"name": name, "unit": "Count", "dimensions": ["ModelName", "Level"]})
    return configuration


def check_free(host: str, port: int, setting: str) -> None:
    """Raise ServingError where a port cannot be had, with the setting that names another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"port {port} on {host} cannot be had ({error}): stop what listens there (`ss -ltnp` names it), or "
                f"choose another, {PREFIX}{setting}=0 for any free one"
            ) from None


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; held together, so that no two are the same."""
    probes = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


# MODEL_LOG carries the workers' output: what a worker says while it dies comes as INFO. Under load it is silent,
# because the handler raises the worker's own level. TorchServe's metrics have an endpoint and need no log.
_LOG4J2: Final = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR">
  <Appenders>
    <RollingFile name="file" fileName="{log}" filePattern="{log}.%i">
      <PatternLayout pattern="%d{{ISO8601}} %-5p %c{{1}} - %m%n"/>
      <SizeBasedTriggeringPolicy size="5 MB"/>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="MODEL_LOG" level="info"/>
    <Root level="warn">
      <AppenderRef ref="file"/>
    </Root>
  </Loggers>
</Configuration>
"""
