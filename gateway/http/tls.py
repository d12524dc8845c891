"""TLS: the server's certificate and the authority for client certificates, reloaded when their files change."""

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
"""Cipher suites of TLS 1.2: with forward secrecy, without CBC. For HTTP and, with BoringSSL, for gRPC. TLS 1.3 has only
such suites."""


class Pem(NamedTuple):
    """The files' contents."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Tls:
    """The server's side of TLS. `context` stays valid while the server runs; `pem` changes."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError if the certificate, its key or the authority for clients cannot be used."""
        self._settings = settings
        self._files = WatchedFiles(
            path for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca) if path
        )
        self._files.changed()
        self._current, self.pem = _load(settings)
        self.context, _ = _load(settings)
        # OpenSSL calls it at each handshake, even if the client sends no server name. A connection keeps its context.
        self.context.sni_callback = self._take_current

    def refresh(self) -> None:
        """Reload the files if one changed. If they cannot be used, log that and keep the current certificate."""
        loaded = self._files.read_changed(
            lambda: _load(self._settings), log, "unusable certificate: the previous one stays"
        )
        if loaded is not None:
            self._current, self.pem = loaded
            log.info("the certificate was reloaded")

    def _take_current(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def open_tls(settings: Settings) -> Tls | None:
    """TLS by the settings; None without a certificate. Raises UsageError."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise UsageError("only one of tls_certificate and tls_key is set: set both, or neither for plain HTTP")
    if settings.tls_client_ca and not settings.tls_certificate:
        raise UsageError("tls_client_ca requires TLS: set tls_certificate and tls_key, too")
    return Tls(settings) if settings.tls_certificate else None


def _load(settings: Settings) -> tuple[ssl.SSLContext, Pem]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 and later
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # First, because OpenSSL would block on a pipe.
        certificate, key = (atomic.read_regular(Path(path)) for path in (settings.tls_certificate, settings.tls_key))
        # Without a password OpenSSL would prompt for that of an encrypted key.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{settings.tls_certificate} and {settings.tls_key} are not a certificate and its key ({error}): use PEM "
            "files, the certificate followed by its chain, the key without a password"
        ) from None
    client_ca = None
    if settings.tls_client_ca:
        try:
            client_ca = atomic.read_regular(Path(settings.tls_client_ca))
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise UsageError(f"{settings.tls_client_ca} has no certificates ({error}): use a PEM file") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # A client that resumes a session presents no certificate again, and would stay admitted after its authority is
        # removed. TLS 1.3 cannot resume without tickets; TLS 1.2 can, and Python has no option against that.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
    return context, Pem(certificate, key, client_ca)
