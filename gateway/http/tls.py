"""TLS: the certificate that clients see, and whose certificates we ask of them, read again when their files change."""

import logging
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from fashion_mnist.errors import UsageError
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from gateway.http.watched_files import WatchedFiles

log = logging.getLogger(__name__)

CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""What clients of TLS 1.2 may choose from: forward secrecy, and no CBC. For HTTP and, with BoringSSL, for gRPC. TLS 1.3
has no others."""


class Pem(NamedTuple):
    """The files' contents."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Tls:
    """The server's end of TLS. `context` is good for as long as the server runs; `pem` changes."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError where the certificate, its key or the authority for clients cannot be used."""
        self._settings = settings
        self._files = WatchedFiles(
            path for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca) if path
        )
        self._files.changed()
        self._current, self.pem = _load(settings)
        self.context, _ = _load(settings)
        # OpenSSL asks at each handshake, also where the client names no server. A connection keeps what it began with.
        self.context.sni_callback = self._take_current

    def refresh(self) -> None:
        """Read the files if one changed. What cannot be used changes nothing, and the log says so."""
        loaded = self._files.read_changed(lambda: _load(self._settings), log, "the certificate stays as it was")
        if loaded is not None:
            self._current, self.pem = loaded
            log.info("the certificate was read again")

    def _take_current(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def open_tls(settings: Settings) -> Tls | None:
    """TLS as the settings want it, None where they do not. Raises UsageError."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise UsageError("tls_certificate and tls_key need each other: set both, or neither for plain HTTP")
    if settings.tls_client_ca and not settings.tls_certificate:
        raise UsageError("tls_client_ca asks clients for certificates, which takes TLS: set tls_certificate too")
    return Tls(settings) if settings.tls_certificate else None


def _load(settings: Settings) -> tuple[ssl.SSLContext, Pem]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 and later
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # First, because OpenSSL would wait for a pipe.
        certificate, key = (atomic.read_regular(Path(path)) for path in (settings.tls_certificate, settings.tls_key))
        # An encrypted key would be asked for at a terminal that nobody sits at.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{settings.tls_certificate} and {settings.tls_key} are no certificate and its key ({error}): give PEM "
            "files, the certificate with the chain behind it, the key without a password"
        ) from None
    client_ca = None
    if settings.tls_client_ca:
        try:
            client_ca = atomic.read_regular(Path(settings.tls_client_ca))
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise UsageError(f"{settings.tls_client_ca} holds no certificates ({error}): give a PEM file") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # Who resumes a session shows no certificate again, and would still get in where its authority no longer counts.
        # Without tickets there is no resumption in TLS 1.3; in TLS 1.2 there is another way, which Python cannot close.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
    return context, Pem(certificate, key, client_ca)
