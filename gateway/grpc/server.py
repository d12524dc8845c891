"""The gRPC server of one gateway: grpcio with our limits, keys and certificates.

All gateways listen at the same address with SO_REUSEPORT, and the kernel spreads connections over them; see
`gateway.http.listening.reserve`.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

import grpc

from fashion_mnist.errors import FashionMNISTError, MethodNotAllowed, ServingError
from fashion_mnist.settings import Settings
from gateway.grpc.calls import Call, InferenceService, refuse
from gateway.grpc.receiving import Receiver
from gateway.grpc.standard import HEALTH, SERVICES, StandardServices
from gateway.http.server import Server
from gateway.http.tls import Pem, Tls
from gateway.protocols import oip_grpc

INFERENCE: Final = f"/{oip_grpc.SERVICE}/"

MAX_STREAMS: Final = 256
"""Concurrent calls of one connection; clients queue further ones."""

MIN_PING_INTERVAL_S: Final = 5
"""A client that pings more often without calls is disconnected after a few pings."""

MAX_CONNECTION_AGE_S: Final = 600
"""After this time clients are asked to reconnect, which fails no call. It spreads them over gateways that were started
later, and ends connections of clients that do not read their answers."""

HOLD_S: Final = 0.1
"""Within this time, all calls that clients have sent have reached their handlers."""

GOAWAY_S: Final = 0.01
"""Within this time after `stop`, grpcio has sent GOAWAY to its clients."""


_CLIENT_ERRORS: Final = {"ExecuteBatchError", "UnicodeDecodeError"}
"""A client disconnected while it was answered, or the path of its call is not UTF-8."""


def _is_relevant(record: logging.LogRecord) -> bool:
    """False for grpcio's log lines on errors of clients."""
    if str(record.msg).startswith("Invalid encoding on"):
        return False
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ not in _CLIENT_ERRORS


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_relevant)


class GrpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves from `start` to `stop`."""

    def __init__(
        self,
        server: Server,
        address: str,
        tls: Tls | None,
        handle: Callable[[Call], None],
        is_ready: Callable[[], bool],
    ) -> None:
        """Create it on the event loop.

        `server` has the limits and the keys, `address` is host:port, `handle` answers an inference call at once or
        later, and `is_ready` returns whether the server should get requests. Raises ServingError if the address is
        taken.
        """
        self._server = server
        self._receiver = Receiver(server)
        self._inference = InferenceService(server, self._receiver, handle)
        self._standard = StandardServices(server, self._receiver, is_ready)
        self._grpc = grpc.aio.server(options=_options(server.settings))
        self._grpc.add_generic_rpc_handlers((self,))
        try:
            if tls is None:
                self._grpc.add_insecure_port(address)
            else:
                self._grpc.add_secure_port(address, _credentials(tls))
        except RuntimeError:
            raise ServingError(
                f"gRPC cannot listen at {address}: stop the process that does, or set FASHION_MNIST_GRPC_PORT"
            ) from None

    async def start(self) -> None:
        """Accept connections."""
        await self._grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Accept no more connections, send GOAWAY, and wait up to `grace_s` for calls in progress.

        grpcio cancels calls that arrive after `stop` and before the client reads GOAWAY. So answers are held for a
        moment first: clients that wait for them send no further calls, and read GOAWAY before the answers.
        """
        self._inference.hold_answers()
        await asyncio.sleep(min(HOLD_S, grace_s))
        stopping = asyncio.create_task(self._grpc.stop(grace_s))
        await asyncio.sleep(GOAWAY_S)
        self._inference.release_answers()
        await stopping
        self._receiver.close()

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """The handler of a call. grpcio calls this once the metadata have arrived, before the message."""
        method: str = details.method
        call = Call(method, details.invocation_metadata)
        error: FashionMNISTError | None = None
        if self._server.admit is not None and not method.startswith(HEALTH):
            error = self._server.admit(call)
        if error is None:
            if method.startswith(INFERENCE):
                return self._inference.handler(call)
            if (handler := self._standard.handler(details)) is not None:
                return handler
            error = MethodNotAllowed(f"unknown call: the services are {', '.join(SERVICES)}")
        return grpc.stream_unary_rpc_method_handler(functools.partial(self._refuse, error))

    async def _refuse(self, error: FashionMNISTError, requests: Any, context: Any) -> None:
        await refuse(self._server, error, context)


def _options(settings: Settings) -> list[tuple[str, int]]:
    """https://grpc.github.io/grpc/core/group__grpc__arg__keys.html."""
    receive_ms = 1000 * settings.receive_timeout_s
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_receive_message_length", settings.max_body_bytes),  # compressed or not
        ("grpc.max_send_message_length", -1),
        # Metadata between the two limits would be refused at random.
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        # Until a client acknowledges the settings, their limits of metadata and streams do not bind it.
        ("grpc.http2.settings_timeout", receive_ms),
        ("grpc.server_handshake_timeout_ms", receive_ms),
        ("grpc.max_connection_idle_ms", 1000 * settings.idle_timeout_s),
        ("grpc.max_connection_age_ms", 1000 * MAX_CONNECTION_AGE_S),
        ("grpc.max_connection_age_grace_ms", receive_ms),
        # Clients that are lost or do not read do not answer pings.
        ("grpc.keepalive_time_ms", receive_ms),
        ("grpc.keepalive_timeout_ms", receive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * MIN_PING_INTERVAL_S),
    ]


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials that are looked up at each handshake, so that new connections use reloaded files."""
    used = tls.pem

    def changed() -> Any:
        # Called in a thread of grpcio.
        nonlocal used
        if used is tls.pem:
            return None
        used = tls.pem
        return configuration(used)

    def configuration(pem: Pem) -> Any:
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)

    return grpc.dynamic_ssl_server_credentials(configuration(used), changed, used.client_ca is not None)
