"""The settings: one typed table of name, type, default, environment variable and help.

The dataclass below is the table. docs/reference/settings.md is printed from it (`fashion-mnist settings`), commands
take their defaults from it, and the archive carries the part of it that the handler needs.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any, Final, Self

from fashion_mnist.errors import UsageError

PREFIX = "FASHION_MNIST_"
RENAMED: Final = {
    "gpu_batch": "max_gpu_batch",
    "jvm_heap_mb": "jvm_heap_mib",
    "max_head_bytes": "max_header_bytes",
    "max_waiting_bytes": "max_buffered_bytes",
    "max_waiting_images": "max_queued_images",
    "stop_timeout_s": "shutdown_timeout_s",
}
"""Settings of version 1, by their names now."""

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

    `handler` marks what travels in the archive to TorchServe's worker, `path` a file or folder, which other processes
    find too because it is made absolute, and `secret` what no message repeats.
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

    host: str = _setting("127.0.0.1", "address that clients connect to")
    port: int = _port(8080, "port that clients connect to")
    grpc: str = _setting("on", "the Open Inference Protocol over gRPC", choices=("on", "off"))
    grpc_port: int = _port(8085, "port of gRPC, at the same address")
    admin_host: str = _setting("127.0.0.1", "address of the metrics and of `fashion-mnist models`")
    admin_port: int = _port(8086, "port of the metrics and of `fashion-mnist models`")
    auth: str = _setting(
        "auto",
        "auto: keys wherever key_file is set, and without it no address but loopback; off: whoever reaches the port",
        choices=("auto", "off"),
    )
    key: str = _setting("", "key that `predict`, `models` and `loadtest` send", secret=True)
    key_file: str = _setting(
        "", "file of the keys that requests must carry; `fashion-mnist keys create` writes it", path=True
    )
    tls_certificate: str = _setting("", "PEM file of the server's certificate and its chain; empty: no TLS", path=True)
    tls_key: str = _setting("", "PEM file of the certificate's key", path=True)
    tls_client_ca: str = _setting(
        "", "PEM file of authorities, of which clients must have a certificate; empty: none", path=True
    )
    cors_origins: str = _setting("", "origins whose pages may ask from a browser, with commas; * for all; empty: none")
    page: str = _setting(
        "auto",
        "the web page at / that shows what the network sees, and what it asks; auto: where host is loopback",
        choices=("auto", "on", "off"),
    )
    traces_endpoint: str = _setting(
        "", "OTLP collector to send traces to by HTTP, such as http://127.0.0.1:4318; empty: no traces", handler=True
    )
    traces_percent: int = _setting(
        1, "requests that are traced of those whose caller does not say, in percent", minimum=0, maximum=100
    )
    engine: str = _setting(
        "torchserve",
        "what answers the gateway: TorchServe, a runtime within it, or a server of the Open Inference Protocol",
        choices=("torchserve", "embedded", "oip"),
    )
    oip_address: str = _setting("127.0.0.1:8001", "where such a server speaks gRPC, host:port")
    oip_model: str = _setting("", "the model's name there; empty: as here")
    oip_version: str = _setting("", "the model's version there; empty: the server's choice")
    max_versions: int = _setting(
        3, "versions of the model that are loaded at once, at most; each takes memory", minimum=1, maximum=16
    )
    gateways: int = _setting(1, "processes of the gateway", minimum=1)
    max_connections: int = _setting(
        16384, "open connections of one gateway, over HTTP and over gRPC each; one more is closed at once", minimum=1
    )
    max_header_bytes: int = _setting(16384, "longest request line and headers together", minimum=256)
    receive_timeout_s: int = _setting(
        10, "seconds for a request's head, and for its body, which gets one more for each 64 KiB", minimum=1
    )
    idle_timeout_s: int = _setting(75, "seconds after which a connection without a request is closed", minimum=1)
    max_buffered_bytes: int = _setting(
        256 * 2**20, "bytes of bodies in one gateway at once; past it requests are refused with 429", minimum=1
    )
    max_queued_images: int = _setting(
        4096, "images that wait in one gateway; past it requests are refused with 429", minimum=1
    )
    engine_timeout_s: int = _setting(5, "seconds that the engine has for a batch", minimum=1)
    drain_s: int = _setting(
        1, "seconds after SIGTERM, of shutdown_timeout_s, in which new connections are still taken", minimum=0
    )
    shutdown_timeout_s: int = _setting(5, "seconds in which open requests are answered, or else cut off", minimum=0)
    health_check_timeout_s: int = _setting(
        2, "seconds that a gateway and TorchServe have to answer a health check of the supervisor's", minimum=1
    )
    health_check_failures: int = _setting(
        2, "health checks in a row without an answer, after which a process is replaced", minimum=1
    )
    startup_timeout_s: int = _setting(60, "seconds until the canary must be answered", minimum=1)

    loop_watchdog: str = _setting(
        "off", "whether callbacks that keep the event loop to themselves are logged; slower", choices=("off", "on")
    )
    log_format: str = _setting(
        "auto", "the log's form; auto: text on a terminal, JSON elsewhere", choices=("auto", "text", "json")
    )

    workers: int = _setting(1, "worker processes of TorchServe", minimum=1)
    batch_size: int = _setting(
        1, "requests that TorchServe hands to a worker at once, at most; the gateway's are packed already", minimum=1
    )
    max_batch_delay_ms: int = _setting(1, "how long TorchServe waits for a batch to fill; 0 makes it slower", minimum=1)
    queue_size: int = _setting(1000, "requests that may wait in TorchServe; past it they are refused", minimum=1)
    jvm_heap_mib: int = _setting(1024, "heap of TorchServe's JVM, in MiB", minimum=128)
    response_timeout_s: int = _setting(10, "seconds after which a stuck worker is replaced", minimum=1)

    runtime: str = _setting("onnx", "what computes", choices=("onnx", "torchscript"), handler=True)
    device: str = _setting(
        "auto", "where; auto takes the GPU if there is one", choices=("auto", "cpu", "cuda"), handler=True
    )
    threads: int = _setting(1, "threads of one runtime on the CPU", minimum=1, handler=True)
    max_gpu_batch: int = _setting(512, "most images of one run on a GPU", minimum=1, maximum=16384, handler=True)
    cuda_graphs: str = _setting(
        "off", "whether ONNX Runtime replays CUDA graphs on a GPU", choices=("off", "on"), handler=True
    )
    prepare: str = _setting(
        "auto",
        "how images become such as the network knows; auto: photographs are prepared; docs/how-to/photographs.md",
        choices=("auto", "always", "paper", "none"),
        handler=True,
    )
    max_body_bytes: int = _setting(16 * 2**20, "longest body, also after unpacking gzip", minimum=1024, handler=True)
    max_pixels: int = _setting(
        50_000_000,
        "most pixels that a request's image files may cost together: of WebP, AVIF and HEIC each counts 2.5, of a "
        "baseline JPEG, which is never decoded whole, a fifth",
        minimum=1,
        handler=True,
    )
    max_images: int = _setting(16384, "most images in one request", minimum=1, handler=True)

    def __post_init__(self) -> None:
        for row in dataclasses.fields(self):
            value = getattr(self, row.name)
            if row.metadata["secret"] and not _SECRET.fullmatch(value):
                raise UsageError(
                    f"{PREFIX}{row.name.upper()} has a blank, a line break or another character that no key has (it is "
                    "not shown here): set it anew, and look at its end first"
                )
            choices, minimum, maximum = (row.metadata[name] for name in ("choices", "minimum", "maximum"))
            if not isinstance(value, row.type) or isinstance(value, bool):  # type: ignore[arg-type]
                raise UsageError(f"{row.name} is {value!r}: it takes a value of type {_type_name(row)}")
            if choices and value not in choices:
                raise UsageError(f"{row.name} is {value!r}: choose one of {', '.join(choices)}")
            if minimum is not None and value < minimum:
                raise UsageError(f"{row.name} is {value}: the least is {minimum}")
            if maximum is not None and value > maximum:
                raise UsageError(f"{row.name} is {value}: the most is {maximum}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings from `FASHION_MNIST_*` variables, then from `overrides` that are not None.

        Raises UsageError for an unknown variable of that prefix and for a value that does not fit.
        """
        variables = os.environ if environment is None else environment
        rows = {row.name: row for row in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in variables.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name in RENAMED:
                raise UsageError(f"{variable} is {PREFIX}{RENAMED[name].upper()} since version 2.0: rename it")
            if name not in rows:
                raise UsageError(f"{variable} is no setting; `fashion-mnist settings` lists them")
            if rows[name].type is int:
                try:
                    values[name] = int(text)
                except ValueError:
                    raise UsageError(f"{variable} is {text!r}: it takes a whole number") from None
            else:
                values[name] = text
        values.update({name: value for name, value in overrides.items() if value is not None})
        for name, value in values.items():
            if rows[name].metadata["path"] and value:
                values[name] = os.path.abspath(value)
        return cls(**values)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Settings from a mapping of names to values, such as the archive's YAML; unknown names are refused."""
        known = {row.name for row in dataclasses.fields(cls)}
        if unknown := sorted(set(mapping) - known):
            raise UsageError(f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return cls(**mapping)

    def for_handler(self) -> dict[str, Any]:
        """The settings that TorchServe's worker needs; `from_mapping` takes them back."""
        return {row.name: getattr(self, row.name) for row in dataclasses.fields(self) if row.metadata["handler"]}


def table() -> list[dict[str, str]]:
    """The table's rows for people: name, type, default, environment variable, help."""
    return [
        {
            "name": row.name,
            "type": " | ".join(row.metadata["choices"]) or _type_name(row),
            "default": str(row.default),
            "variable": PREFIX + row.name.upper(),
            "help": row.metadata["help"],
        }
        for row in dataclasses.fields(Settings)
    ]


def _type_name(row: "dataclasses.Field[Any]") -> str:
    return str(getattr(row.type, "__name__", row.type))
