"""Keys for a server under test."""

from pathlib import Path

from gateway.http.keys import PREDICT, Key, create, editing


def add_key(path: Path, *scopes: str, expires_in_s: float | None = None) -> tuple[str, Key]:
    text, key = create("somebody", scopes or [PREDICT], expires_in_s)
    with editing(path) as keys:
        keys.append(key)
    return text, key
