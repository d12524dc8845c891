"""What is checked before the first client starts: that a server answers at all."""

import socket
import ssl
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import grpc
import httpx

from fashion_mnist.client.http import READY
from fashion_mnist.errors import ServingError, UsageError
from fashion_mnist.system.addresses import checked_url, open_http
from loadtest.kinds import Kind

TIMEOUT_S: Final = 10.0
"""For one answer."""

_LIVE: Final = "/inference.GRPCInferenceService/ServerLive"
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def check_server(url: str, grpc_address: str, kinds: Iterable[Kind]) -> None:
    """Send one request by each protocol that the kinds need; any answer will do.

    Raises ServingError where none comes, and UsageError for an address that is none.
    """
    protocols = {kind.grpc for kind in kinds}
    if False in protocols:
        _ask_http(checked_url(url))
    if True in protocols:
        _ask_grpc(grpc_address, credentials(url, grpc_address))


def grpc_address(url: str, port: int) -> str:
    """HOST:PORT of the gRPC port of the server with this URL."""
    host = urlsplit(url).hostname or "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def credentials(url: str, grpc_address: str) -> grpc.ChannelCredentials | None:
    """What a gRPC channel needs to the server with this URL; None where it does not speak TLS.

    As over HTTP, whatever certificate it shows is believed. Raises ServingError where it shows none.
    """
    if urlsplit(url).scheme != "https":
        return None
    try:
        found = urlsplit(f"//{grpc_address}")
        address = found.hostname or "", found.port or 0
        # Not by ssl.get_server_certificate, of which gevent's has no deadline.
        with socket.create_connection(address, TIMEOUT_S) as plain, _unverified().wrap_socket(plain) as connection:
            shown = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")
    except ValueError:
        raise UsageError(f"{grpc_address[:200]!r} is no HOST:PORT of gRPC: write it as 127.0.0.1:8085") from None
    except OSError as error:
        raise _no_answer(f"{grpc_address} over gRPC with TLS", str(error), "--grpc") from None
    return grpc.ssl_channel_credentials(shown.encode())


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A gRPC channel with a connection of its own, past the environment's proxies."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)


def _ask_http(url: str) -> None:
    try:
        with open_http(httpx.Client, url, _unverified(), timeout=TIMEOUT_S) as client:
            client.get(url + READY)
    except httpx.HTTPError as error:
        raise _no_answer(url, str(error) or type(error).__name__, "--host") from None


def _ask_grpc(address: str, credentials: grpc.ChannelCredentials | None) -> None:
    with open_channel(address, credentials) as channel:
        try:
            channel.unary_unary(_LIVE)(b"", timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() in _NO_ANSWER:
                raise _no_answer(f"{address} over gRPC", error.details() or error.code().name, "--grpc") from None


def _unverified() -> ssl.SSLContext:
    """Takes any certificate, as Locust's clients do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _no_answer(where: str, said: str, option: str) -> ServingError:
    return ServingError(
        f"no answer from {where} ({said[:200]}): start the server with `make serve`, or name another with {option}"
    )
