"""TLS: the certificate that clients see, and whose certificates we ask of them, read again when their files change."""

import logging
import ssl
from collections.abc import Sequence
from typing import Final

from fashion_mnist.errors import UsageError
from fashion_mnist.settings import Settings
from gateway.watched_files import WatchedFiles

log = logging.getLogger(__name__)

HTTP_1: Final = "http/1.1"
H2: Final = "h2"
"""What clients may choose from by ALPN (RFC 7301)."""


class Tls:
    """The server's end of TLS. `context` is good for as long as the server runs."""

    def __init__(self, settings: Settings, protocols: Sequence[str]) -> None:
        """Raises UsageError where the certificate, its key or the authority for clients cannot be used."""
        self._settings = settings
        self._protocols = protocols
        self._files = WatchedFiles(
            path for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca) if path
        )
        self._files.changed()
        self._current = _load(settings, protocols)
        self.context = _load(settings, protocols)
        # OpenSSL asks at each handshake, also where the client names no server. A connection keeps what it began with.
        self.context.sni_callback = self._take_current

    def refresh(self) -> None:
        """Read the files if one changed. What cannot be used changes nothing, and the log says so."""
        current = self._files.read_changed(
            lambda: _load(self._settings, self._protocols), log, "the certificate stays as it was"
        )
        if current is not None:
            self._current = current
            log.info("the certificate was read again")

    def _take_current(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def open_tls(settings: Settings, protocols: Sequence[str] = (HTTP_1,)) -> Tls | None:
    """TLS as the settings want it, None where they do not. Raises UsageError."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise UsageError("tls_certificate and tls_key need each other: set both, or neither for plain HTTP")
    if settings.tls_client_ca and not settings.tls_certificate:
        raise UsageError("tls_client_ca asks clients for certificates, which takes TLS: set tls_certificate too")
    return Tls(settings, protocols) if settings.tls_certificate else None


def _load(settings: Settings, protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 and later
    context.set_alpn_protocols(list(protocols))
    try:
        # An encrypted key would be asked for at a terminal that nobody sits at.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{settings.tls_certificate} and {settings.tls_key} are no certificate and its key ({error}): give PEM "
            "files, the certificate with the chain behind it, the key without a password"
        ) from None
    if settings.tls_client_ca:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise UsageError(f"{settings.tls_client_ca} holds no certificates ({error}): give a PEM file") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # Who resumes a session shows no certificate again, and would still get in where its authority no longer counts.
        # Without tickets there is no resumption in TLS 1.3; in TLS 1.2 there is another way, which Python cannot close.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
    return context
