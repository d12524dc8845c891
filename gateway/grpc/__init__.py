"""gRPC: the Open Inference Protocol's calls, the standard health service and server reflection, served by grpcio.

This module does not import grpcio, which reads `ENVIRONMENT` when it is loaded.
"""

from typing import Final

from gateway.http.tls import CIPHERS

ENVIRONMENT: Final = {
    "GRPC_VERBOSITY": "NONE",  # else it prints a line to stderr for each failed handshake
    "GRPC_SSL_CIPHER_SUITES": CIPHERS,
}
"""Environment variables of a process that serves gRPC."""
