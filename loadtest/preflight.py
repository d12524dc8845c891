"""What is checked before the first client starts: that a server answers at all."""

import ssl
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import grpc
import httpx

from fashion_mnist.addresses import checked_url, open_http
from fashion_mnist.client import READY
from fashion_mnist.errors import ServingError
from loadtest.kinds import Kind

TIMEOUT_S: Final = 10.0
"""For one answer."""

_LIVE: Final = "/inference.GRPCInferenceService/ServerLive"
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def check_server(url: str, grpc_address: str, kinds: Iterable[Kind]) -> None:
    """Send one request by each protocol that the kinds need; any answer will do.

    Raises ServingError where none comes, and UsageError for a URL that is none.
    """
    protocols = {kind.grpc for kind in kinds}
    if False in protocols:
        _ask_http(checked_url(url))
    if True in protocols:
        _ask_grpc(grpc_address)


def grpc_address(url: str, port: int) -> str:
    """HOST:PORT of the gRPC port of the server with this URL."""
    host = urlsplit(url).hostname or "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_channel(address: str) -> grpc.Channel:
    """A gRPC channel with a connection of its own, past the environment's proxies."""
    return grpc.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    )


def _ask_http(url: str) -> None:
    # Locust's clients believe any certificate.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        with open_http(httpx.Client, url, unverified, timeout=TIMEOUT_S) as client:
            client.get(url + READY)
    except httpx.HTTPError as error:
        raise _no_answer(url, str(error) or type(error).__name__, "--host") from None


def _ask_grpc(address: str) -> None:
    with open_channel(address) as channel:
        try:
            channel.unary_unary(_LIVE)(b"", timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() in _NO_ANSWER:
                raise _no_answer(f"{address} over gRPC", error.details() or error.code().name, "--grpc") from None


def _no_answer(where: str, said: str, option: str) -> ServingError:
    return ServingError(
        f"no answer from {where} ({said[:200]}): start the server with `make serve`, or name another with {option}"
    )
