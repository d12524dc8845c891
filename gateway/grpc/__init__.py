"""gRPC: the Open Inference Protocol's calls, the standard health service and server reflection, served by grpcio.

Imports nothing of grpcio itself: it reads `ENVIRONMENT` when it is loaded.
"""

from typing import Final

from gateway.http.tls import CIPHERS

ENVIRONMENT: Final = {
    "GRPC_VERBOSITY": "NONE",  # else a client's broken handshake is a line on stderr
    "GRPC_SSL_CIPHER_SUITES": CIPHERS,
}
"""Environment variables of a process that serves gRPC."""
