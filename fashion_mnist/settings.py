"""The settings: one typed table of names, types, defaults, environment variables and help texts.

The dataclass below is the table. docs/reference/settings.md is printed from it (`fashion-mnist settings --reference`),
commands take their defaults from it, and the archive carries the part of it that the handler needs.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Self

from fashion_mnist import settings_file
from fashion_mnist.errors import UsageError

PREFIX = "FASHION_MNIST_"
CONFIG: Final = f"{PREFIX}CONFIG"
"""The variable that names the settings file."""

RENAMED: Final = {
    "gpu_batch": "max_gpu_batch",
    "jvm_heap_mb": "jvm_heap_mib",
    "max_head_bytes": "max_header_bytes",
    "max_waiting_bytes": "max_buffered_bytes",
    "max_waiting_images": "max_queued_images",
    "stop_timeout_s": "shutdown_timeout_s",
}
"""The present names of settings of version 1."""

_SECRET: Final = re.compile(r"[!-~]*")


def _setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: int | None = None,
    maximum: int | None = None,
    handler: bool = False,
    path: bool = False,
    secret: bool = False,
) -> Any:
    """A row of the table.

    `handler` marks settings that the archive passes to TorchServe's worker, `path` files and folders, which are made
    absolute for other processes, and `secret` values that no message repeats.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "handler": handler}
    metadata |= {"path": path, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata)


def _port(default: int, help: str) -> Any:
    return _setting(default, f"{help}; 0 picks a free one", minimum=0, maximum=65535)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its default. Units are in the names."""

    data: str = _setting(
        "",
        "the data set: a folder or an .npz; empty: Fashion-MNIST from Debian's package, else torchvision's download",
        path=True,
    )
    model_store: str = _setting("", "folder of the released model; empty: the repository's model_store/", path=True)

    host: str = _setting("127.0.0.1", "address for clients")
    port: int = _port(8080, "HTTP port for clients")
    grpc: str = _setting("on", "serve the Open Inference Protocol over gRPC", choices=("on", "off"))
    grpc_port: int = _port(8085, "gRPC port, at the same address; if only `port` is set, 5 above it")
    admin_host: str = _setting("127.0.0.1", "address of the metrics and of `fashion-mnist models`")
    admin_port: int = _port(
        8086, "port of the metrics and of `fashion-mnist models`; if only `port` is set, 6 above it"
    )
    auth: str = _setting(
        "auto",
        "auto: require keys if key_file is set, and refuse other addresses than loopback without it; off: never "
        "require keys",
        choices=("auto", "off"),
    )
    key: str = _setting("", "key sent by `predict`, `models` and `loadtest`", secret=True)
    key_file: str = _setting("", "file of the valid keys, written by `fashion-mnist keys create`", path=True)
    tls_certificate: str = _setting("", "PEM file of the server's certificate and its chain; empty: no TLS", path=True)
    tls_key: str = _setting("", "PEM file of the certificate's private key", path=True)
    tls_client_ca: str = _setting(
        "", "PEM file of the authorities for required client certificates; empty: none required", path=True
    )
    cors_origins: str = _setting("", "comma-separated origins whose web pages may use the API; * for all; empty: none")
    page: str = _setting(
        "auto",
        "serve the web page at /, which shows what the network sees; auto: only if host is loopback",
        choices=("auto", "on", "off"),
    )
    traces_endpoint: str = _setting(
        "", "OTLP collector for traces, over HTTP, such as http://127.0.0.1:4318; empty: no traces", handler=True
    )
    traces_percent: int = _setting(
        1, "share of requests that are traced unless the caller decides, in percent", minimum=0, maximum=100
    )
    engine: str = _setting(
        "torchserve",
        "inference engine: TorchServe, a runtime in the gateway's process, or a server of the Open Inference Protocol",
        choices=("torchserve", "embedded", "oip"),
    )
    oip_address: str = _setting("127.0.0.1:8001", "gRPC address of such a server, host:port")
    oip_model: str = _setting("", "the model's name on such a server; empty: the same as here")
    oip_version: str = _setting("", "the model's version on such a server; empty: the server's default")
    max_versions: int = _setting(
        3, "maximum number of loaded versions of the model; each takes memory", minimum=1, maximum=16
    )
    gateways: int = _setting(1, "number of gateway processes", minimum=1)
    max_connections: int = _setting(
        16384, "open connections of one gateway, for HTTP and gRPC each; further ones are closed at once", minimum=1
    )
    max_header_bytes: int = _setting(16384, "maximum length of request line and headers together", minimum=256)
    receive_timeout_s: int = _setting(
        10, "seconds for a request's headers, and for its body plus one for each 64 KiB", minimum=1
    )
    idle_timeout_s: int = _setting(75, "seconds after which a connection without a request is closed", minimum=1)
    max_buffered_bytes: int = _setting(
        160 * 2**20, "bytes of bodies in one gateway; beyond this, requests are refused with 429", minimum=1
    )
    max_queued_images: int = _setting(
        4096, "images queued in one gateway; beyond this, requests are refused with 429", minimum=1
    )
    engine_timeout_s: int = _setting(5, "seconds for the engine to compute a batch", minimum=1)
    drain_s: int = _setting(
        1, "seconds after SIGTERM, within shutdown_timeout_s, in which new connections are accepted", minimum=0
    )
    shutdown_timeout_s: int = _setting(
        5, "seconds in which open requests are answered before their connections are closed", minimum=0
    )
    health_check_timeout_s: int = _setting(
        2, "seconds for a gateway and TorchServe to answer a health check of the supervisor", minimum=1
    )
    health_check_failures: int = _setting(
        2, "consecutive unanswered health checks after which a process is replaced", minimum=1
    )
    startup_timeout_s: int = _setting(60, "seconds until the first health check must succeed", minimum=1)

    loop_watchdog: str = _setting("off", "log callbacks that block the event loop; slower", choices=("off", "on"))
    log_format: str = _setting(
        "auto", "format of the log; auto: text on a terminal, JSON otherwise", choices=("auto", "text", "json")
    )

    workers: int = _setting(1, "worker processes of TorchServe", minimum=1)
    batch_size: int = _setting(
        1, "maximum requests in TorchServe's own batches; the gateway's requests are batched already", minimum=1
    )
    max_batch_delay_ms: int = _setting(
        1, "milliseconds that TorchServe waits to fill a batch; 0 makes it slower", minimum=1
    )
    queue_size: int = _setting(1000, "requests queued in TorchServe; further ones are refused", minimum=1)
    jvm_heap_mib: int = _setting(1024, "heap of TorchServe's JVM, in MiB", minimum=128)
    response_timeout_s: int = _setting(10, "seconds after which a stuck worker is replaced", minimum=1)

    runtime: str = _setting("onnx", "inference runtime", choices=("onnx", "torchscript"), handler=True)
    device: str = _setting(
        "auto", "where to compute; auto: on the GPU if there is one", choices=("auto", "cpu", "cuda"), handler=True
    )
    threads: int = _setting(1, "threads of one runtime on the CPU", minimum=1, handler=True)
    max_gpu_batch: int = _setting(512, "maximum images of one run on a GPU", minimum=1, maximum=16384, handler=True)
    cuda_graphs: str = _setting(
        "off", "replay CUDA graphs with ONNX Runtime on a GPU", choices=("off", "on"), handler=True
    )
    prepare: str = _setting(
        "auto",
        "how to prepare images for the network; auto: prepare photographs; see docs/how-to/photographs.md",
        choices=("auto", "always", "paper", "none"),
        handler=True,
    )
    max_body_bytes: int = _setting(
        16 * 2**20, "maximum length of a body, also after decompression", minimum=1024, handler=True
    )
    max_pixels: int = _setting(
        50_000_000,
        "maximum pixels of a request's image files together; a pixel of WebP, AVIF and HEIC counts as 2.5, one of a "
        "baseline JPEG, which is decoded in a stream, as 0.2",
        minimum=1,
        handler=True,
    )
    max_images: int = _setting(16384, "maximum images of one request", minimum=1, handler=True)

    def __post_init__(self) -> None:
        for row in dataclasses.fields(self):
            value = getattr(self, row.name)
            if row.metadata["secret"] and not _SECRET.fullmatch(value):
                raise UsageError(
                    f"{PREFIX}{row.name.upper()} has a space, a line break or another character that keys do not have "
                    "(it is not shown here): correct it, especially its end"
                )
            choices, minimum, maximum = (row.metadata[name] for name in ("choices", "minimum", "maximum"))
            if not isinstance(value, row.type) or isinstance(value, bool):  # type: ignore[arg-type]
                raise UsageError(f"{row.name} is {value!r}: use a value of type {_type_name(row)}")
            if choices and value not in choices:
                raise UsageError(f"{row.name} is {value!r}: choose one of {', '.join(choices)}")
            if minimum is not None and value < minimum:
                raise UsageError(f"{row.name} is {value}: the minimum is {minimum}")
            if maximum is not None and value > maximum:
                raise UsageError(f"{row.name} is {value}: the maximum is {maximum}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings from `overrides` that are not None, else `FASHION_MNIST_*` variables, else a settings file.

        Raises UsageError for an unknown variable of that prefix, an unknown name in the file, and an invalid value.
        """
        return cls(**{name: found.value for name, found in find_settings(environment, **overrides).items()})

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Settings from a mapping of names to values, such as the archive's YAML; unknown names are refused."""
        known = {row.name for row in dataclasses.fields(cls)}
        if unknown := sorted(set(mapping) - known):
            raise UsageError(f"unknown settings: {', '.join(unknown)}; use {', '.join(sorted(known))}")
        return cls(**mapping)

    def for_handler(self) -> dict[str, Any]:
        """The settings for TorchServe's worker, as a mapping for `from_mapping`."""
        return {row.name: getattr(self, row.name) for row in dataclasses.fields(self) if row.metadata["handler"]}


class Found(NamedTuple):
    """A setting's value, and what gave it."""

    value: Any
    source: str
    """flag, environment, the settings file's path, or port where it follows from that."""


def find_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> dict[str, Found]:
    """What is set otherwise than by default, by name: a flag goes before the environment, and that before the file.

    Raises UsageError as `Settings.from_environment`.
    """
    variables = os.environ if environment is None else environment
    found: dict[str, Found] = {}
    if (file := settings_file.find(variables, CONFIG)) is not None:
        for name, value in settings_file.read(file).items():
            row = _row(name, f"{name} in {file}", lambda new: new)
            if row.metadata["path"] and isinstance(value, str) and value:
                value = os.path.join(os.path.dirname(file), value)
            found[name] = Found(value, file)
    for variable, text in variables.items():
        if not variable.startswith(PREFIX) or variable == CONFIG:
            continue
        name = variable.removeprefix(PREFIX).lower()
        row = _row(name, variable, lambda new: PREFIX + new.upper())
        found[name] = Found(_parsed(text, row, variable), "environment")
    found.update({name: Found(value, "flag") for name, value in overrides.items() if value is not None})
    for name, (value, source) in found.items():
        if _ROWS[name].metadata["path"] and value and isinstance(value, str):
            found[name] = Found(os.path.abspath(value), source)
    return _beside(found)


def _beside(found: dict[str, Found]) -> dict[str, Found]:
    """The ports that belong to `port`, where they are not set, as far from it as by default: so two servers do."""
    if "port" in found and isinstance(port := found["port"].value, int):
        for name, distance in _BESIDE_PORT.items():
            other = port + distance if port else 0
            found.setdefault(name, Found(other, "port"))
    return found


def _row(name: str, where: str, spelled: Callable[[str], str]) -> "dataclasses.Field[Any]":
    """The table's row of a name that somebody gave. Raises UsageError where there is none."""
    if name in RENAMED:
        raise UsageError(f"{where} is {spelled(RENAMED[name])} since version 2.0: rename it")
    if name not in _ROWS:
        raise UsageError(f"{where} is not a setting: `fashion-mnist settings` lists all settings")
    return _ROWS[name]


def _parsed(text: str, row: "dataclasses.Field[Any]", where: str) -> Any:
    if row.type is not int:
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{where} is {text!r}: use an integer") from None


_BESIDE_PORT: Final = {"grpc_port": 5, "admin_port": 6}
_ROWS: Final = {row.name: row for row in dataclasses.fields(Settings)}


def table() -> list[dict[str, str]]:
    """The table's rows for people: name, type, default, environment variable, help."""
    return [
        {
            "name": row.name,
            "type": " | ".join(row.metadata["choices"]) or _type_name(row),
            "default": str(row.default),
            "variable": PREFIX + row.name.upper(),
            "help": row.metadata["help"],
            "secret": "yes" if row.metadata["secret"] else "",
        }
        for row in dataclasses.fields(Settings)
    ]


def _type_name(row: "dataclasses.Field[Any]") -> str:
    return str(getattr(row.type, "__name__", row.type))
