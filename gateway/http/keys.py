"""API keys: a file of digests, reloaded whenever it changes, and the check of each request.

A key is `fm_`, eight hexadecimal digits that identify it, and 32 random bytes. Only its SHA-256 is stored. A slow hash,
as for passwords, would add nothing: 256 random bits cannot be guessed.
"""

import dataclasses
import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self

from fashion_mnist.errors import FashionMNISTError, Forbidden, Unauthorized, UsageError
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from gateway.http.watched_files import WatchedFiles

log = logging.getLogger(__name__)

PREDICT: Final = "predict"
ADMIN: Final = "admin"
SCOPES: Final = (PREDICT, ADMIN)
"""What a key may be used for: predictions, and the admin port. Neither includes the other."""

BEARER: Final = "bearer "
_ID_LENGTH: Final = len("fm_01234567")
_ID: Final = re.compile(r"fm_[0-9a-f]{8}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NEVER: Final = float("inf")


@dataclasses.dataclass(frozen=True)
class Key:
    """What is stored of a key: everything but its secret."""

    id: str
    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: str
    """In UTC, as ISO 8601."""
    expires: str | None = None
    """In UTC, as ISO 8601; None for never."""

    @classmethod
    def from_mapping(cls, mapping: Any) -> Self:
        """A key from its entry in the file. Raises ValueError for anything else."""
        if not isinstance(mapping, Mapping) or set(mapping) != {field.name for field in dataclasses.fields(cls)}:
            raise ValueError("a key has id, name, sha256, scopes, created and expires")
        id, digest, scopes, expires = (mapping[name] for name in ("id", "sha256", "scopes", "expires"))
        if not isinstance(id, str) or not _ID.fullmatch(id):
            raise ValueError(f"a key's id is {id!r}")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(f"the sha256 of {id} is not a SHA-256 digest")
        if not isinstance(scopes, list | tuple) or not scopes or any(scope not in SCOPES for scope in scopes):
            raise ValueError(f"the scopes of {id} must be among {', '.join(SCOPES)}")
        if expires is not None:
            _seconds(expires)
        return cls(id, str(mapping["name"]), digest, tuple(scopes), str(mapping["created"]), expires)

    @property
    def expires_s(self) -> float:
        """When it expires, in seconds since 1970; infinity for never."""
        return _NEVER if self.expires is None else _seconds(self.expires)


def create(name: str, scopes: Iterable[str], expires_in_s: float | None = None) -> tuple[str, Key]:
    """A new key's text, which is not stored, and its record. Raises UsageError for an unknown scope."""
    scopes = tuple(dict.fromkeys(scopes))
    if not scopes or not set(scopes) <= set(SCOPES):
        raise UsageError(f"the key's scope is {' and '.join(scopes) or 'missing'}: choose from {', '.join(SCOPES)}")
    now = time.time()
    id = f"fm_{secrets.token_hex(4)}"
    text = f"{id}_{secrets.token_urlsafe(32)}"
    expires = None if expires_in_s is None else _iso(now + expires_in_s)
    return text, Key(id, name, _digest(text).hex(), scopes, _iso(now), expires)


def read(path: Path) -> list[Key]:
    """The keys of a file. Raises UsageError if it is missing or anything in it is invalid."""
    try:
        content = json.loads(atomic.read_regular(path))
        if not isinstance(content, dict) or set(content) != {"keys"} or not isinstance(content["keys"], list):
            raise ValueError('not {"keys": [...]}')
        keys = [Key.from_mapping(mapping) for mapping in content["keys"]]
        if len({key.id for key in keys}) < len(keys):
            raise ValueError("two keys with the same id")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: create it with `fashion-mnist keys create`") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): make it readable for the service") from None
    except ValueError as error:
        raise UsageError(
            f"{path} is not a valid key file ({error}): restore it, or create new keys elsewhere"
        ) from None
    return keys


@contextmanager
def editing(path: Path) -> Iterator[list[Key]]:
    """The keys of a file, to be changed in place; they are written back atomically unless an exception is raised.

    A missing file is created. Concurrent editors wait for each other. Raises UsageError as `read` does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): name another file") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read(path) if path.exists() else []
        yield keys
        content = {"keys": [dataclasses.asdict(key) for key in keys]}
        # Readable for other users, such as the service's: digests give no access.
        atomic.write_text(path, json.dumps(content, indent=2) + "\n")
    finally:
        os.close(folder)


class Keyring:
    """The keys that are valid now."""

    def __init__(self, path: Path) -> None:
        """Load the keys of a file. As long as it cannot be read, every request is refused."""
        self._path = path
        self._files = WatchedFiles([path])
        self._keys: dict[str, tuple[Key, bytes, float]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reload the file if it changed. If it cannot be read, log that and keep the current keys."""
        keys = self._files.read_changed(lambda: read(self._path), log, "unusable key file: the previous keys stay")
        if keys is not None:
            self._keys = {key.id: (key, bytes.fromhex(key.sha256), key.expires_s) for key in keys}

    def refusal(self, authorization: str, scope: str) -> FashionMNISTError | None:
        """Why a request with this Authorization header may not do what needs `scope`; None if it may.

        Unauthorized without a valid key, Forbidden if the key has other scopes.
        """
        if authorization[:7].lower() != BEARER:
            return Unauthorized("no key: send the header `Authorization: Bearer KEY`")
        # One spelling of a key alone is good: a proxy that counts requests by key would take others for other clients.
        text = authorization[7:]
        key, digest, expires_s = self._keys.get(text[:_ID_LENGTH], _NO_KEY)
        # The id is no secret; only the comparison of the rest must take constant time.
        if not hmac.compare_digest(digest, _digest(text)):
            return Unauthorized("the key is unknown or was revoked: ask for a new one")
        if time.time() >= expires_s:
            return Unauthorized(f"the key expired at {key.expires}: ask for a new one")
        if scope not in key.scopes:
            return Forbidden(f"the key has the scope {', '.join(key.scopes)}: use one with {scope}")
        return None


def required(settings: Settings) -> bool:
    """Whether requests must carry a key.

    Raises UsageError if requests from other machines would be accepted without a check and the settings do not ask
    for that explicitly, and if they contradict each other.
    """
    if settings.auth == "off":
        if settings.key_file:
            raise UsageError("auth is off, so the keys of key_file would not be checked: set only one of them")
        return False
    if settings.key_file:
        read(Path(settings.key_file))
        return True
    if settings.tls_client_ca:
        return False  # TLS checks client certificates
    for name, host in (("host", settings.host), ("admin_host", settings.admin_host)):
        if not is_loopback(host):
            raise UsageError(
                f"{name} is {host}, which other machines can reach, and requests would not be authenticated: create a "
                "key with `fashion-mnist keys create` and set FASHION_MNIST_KEY_FILE, or set FASHION_MNIST_AUTH=off "
                "if a proxy in front authenticates them"
            )
    return False


def is_loopback(host: str) -> bool:
    """Whether an address, or all that a name stands for, can be reached from this machine alone."""
    try:
        addresses = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()


def _seconds(moment: Any) -> float:
    try:
        return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except (TypeError, ValueError):
        raise ValueError(f"{moment!r} is not a time in UTC such as 2026-01-31T12:00:00Z") from None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_NO_KEY: Final = (Key("", "", "", (), ""), bytes(32), _NEVER)
