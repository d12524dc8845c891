"""gRPC asks for keys, speaks TLS and is traced as HTTP is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from gateway.http.keys import ADMIN, PREDICT
from gateway.protocols import inference_pb2 as pb
from gateway.protocols.oip import OUTPUTS
from tests.support.collector import Collector, collecting
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.keys import add_key

SERVICE = "/inference.GRPCInferenceService/"
INFER = pb.ModelInferRequest(
    model_name="fashion_mnist",
    inputs=[{"name": "images", "datatype": "UINT8", "shape": [1, 28, 28]}],
    raw_input_contents=[bytes(784)],
)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    return {scope: add_key(folder / "keys.json", scope)[0] for scope in (PREDICT, ADMIN)}


@pytest.fixture(scope="module")
def server(folder: Path, keys: dict[str, str], ca: trustme.CA, collector: Collector) -> Iterator[ServeCommand]:
    """A server that does all of it."""
    pem = str(folder / "server.pem")
    ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    settings = {
        "key_file": folder / "keys.json",
        "tls_certificate": pem,
        "tls_key": pem,
        "traces_endpoint": collector.url,
        "traces_percent": 0,
    }
    environment = {f"FASHION_MNIST_{name.upper()}": str(value) for name, value in settings.items()}
    with serve_command(folder, "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


@pytest.fixture(scope="module")
def channel(server: ServeCommand, ca: trustme.CA) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.state().grpc_port}", credentials) as channel:
        yield channel


def call(channel: grpc.Channel, name: str, request: Any, key: str = "", **metadata: str) -> Any:
    reply = getattr(pb, f"{name}Response")
    sent = [*metadata.items(), *([("authorization", f"Bearer {key}")] if key else [])]
    method = channel.unary_unary(SERVICE + name, type(request).SerializeToString, reply.FromString)
    return method(request, timeout=20, metadata=sent)


def test_a_key_is_needed(channel: grpc.Channel, keys: dict[str, str]) -> None:
    assert len(call(channel, "ModelInfer", INFER, keys[PREDICT]).outputs) == len(OUTPUTS)
    for key, status in (
        ("", "UNAUTHENTICATED"),
        (keys[PREDICT][:-1], "UNAUTHENTICATED"),
        (keys[ADMIN], "PERMISSION_DENIED"),
    ):
        for name, request in (("ModelInfer", INFER), ("ServerMetadata", pb.ServerMetadataRequest())):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, name, request, key)
            assert caught.value.code().name == status


def test_health_is_everybodys(channel: grpc.Channel) -> None:
    assert call(channel, "ServerLive", pb.ServerLiveRequest()).live
    assert call(channel, "ServerReady", pb.ServerReadyRequest()).ready


def test_who_speaks_without_tls_is_not_answered(server: ServeCommand, keys: dict[str, str]) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.state().grpc_port}") as plain,
        pytest.raises(grpc.RpcError) as caught,
    ):
        call(plain, "ModelInfer", INFER, keys[PREDICT])
    assert caught.value.code().name == "UNAVAILABLE"


def test_a_call_is_followed_to_the_engine(channel: grpc.Channel, keys: dict[str, str], collector: Collector) -> None:
    trace, name = f"{9:032x}", f"POST {SERVICE}ModelInfer"
    call(channel, "ModelInfer", INFER, keys[PREDICT], traceparent=f"00-{trace}-{7:016x}-01")
    wait_until(lambda: bool(collector.find(name, trace)), "the call's span", 10)
    wait_until(lambda: len(collector.find("engine", trace)) == 2, "the batch's span", 10)
    (found,) = collector.find(name, trace)
    assert (found.parent, found.attributes["fashion_mnist.images"]) == (f"{7:016x}", 1)
