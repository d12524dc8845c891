"""The gRPC server of one gateway: grpcio's, with our limits, keys and certificates.

Every gateway listens at the same address by SO_REUSEPORT, and the kernel spreads connections over them; see
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
"""Calls of one connection at a time; a client keeps those beyond to itself."""

MIN_PING_INTERVAL_S: Final = 5
"""A client that pings more often, without calls, is disconnected after a few pings."""

MAX_CONNECTION_AGE_S: Final = 600
"""Then clients are asked to connect anew, which costs no call. It spreads them over gateways that were started later,
and ends what a client holds that does not read its answers."""

HOLD_S: Final = 0.1
"""What has been sent to us is being answered after so long."""

TOLD_S: Final = 0.01
"""So long after it was told to stop, grpcio has told the clients."""


_CLIENTS_DOING: Final = {"ExecuteBatchError", "UnicodeDecodeError"}
"""A client went away while its answer was sent, or the path of its call is not UTF-8."""


def _concerns_us(record: logging.LogRecord) -> bool:
    """Whether a line of grpcio's is about more than what a client did."""
    if str(record.msg).startswith("Invalid encoding on"):
        return False
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ not in _CLIENTS_DOING


logging.getLogger("grpc._cython.cygrpc").addFilter(_concerns_us)


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
        """To be made on the event loop.

        `server` has the limits and the keys, `address` is host:port, `handle` answers a call of inference at once or
        later, and `is_ready` says whether requests are to be sent here. Raises ServingError where the address is taken.
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
                f"gRPC cannot listen at {address}: stop what does, or set FASHION_MNIST_GRPC_PORT"
            ) from None

    async def start(self) -> None:
        """Take connections."""
        await self._grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, ask clients to go elsewhere, and wait so long for the calls that have begun.

        grpcio cancels calls that reach it after it was told to stop and before their client knows. So answers are held
        back for a moment first: clients that wait for them send no others, and read that we stop before the answers.
        """
        self._inference.hold_answers()
        await asyncio.sleep(min(HOLD_S, grace_s))
        stopping = asyncio.create_task(self._grpc.stop(grace_s))
        await asyncio.sleep(TOLD_S)
        self._inference.release_answers()
        await stopping
        self._receiver.close()

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """What answers a call: grpcio asks for each, when its metadata have come and its message has not."""
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
            error = MethodNotAllowed(f"there is no such call: the services are {', '.join(SERVICES)}")
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
        # Between the two, calls would be refused by chance.
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        # Until a client acknowledges our settings, what they say of metadata and streams does not bind it.
        ("grpc.http2.settings_timeout", receive_ms),
        ("grpc.server_handshake_timeout_ms", receive_ms),
        ("grpc.max_connection_idle_ms", 1000 * settings.idle_timeout_s),
        ("grpc.max_connection_age_ms", 1000 * MAX_CONNECTION_AGE_S),
        ("grpc.max_connection_age_grace_ms", receive_ms),
        # A client that is gone, or does not read, does not answer pings.
        ("grpc.keepalive_time_ms", receive_ms),
        ("grpc.keepalive_timeout_ms", receive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * MIN_PING_INTERVAL_S),
    ]


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Those of `tls`, which are asked for at each handshake, so that new files count for new connections."""
    used = tls.pem

    def changed() -> Any:
        # In a thread of grpcio's own.
        nonlocal used
        if used is tls.pem:
            return None
        used = tls.pem
        return configuration(used)

    def configuration(pem: Pem) -> Any:
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)

    return grpc.dynamic_ssl_server_credentials(configuration(used), changed, used.client_ca is not None)
