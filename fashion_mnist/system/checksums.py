"""SHA256SUMS: the list of checksums beside the model files, in the format of coreutils' `sha256sum --check`."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fashion_mnist.errors import ModelError
from fashion_mnist.system import atomic

NAME: Final = "SHA256SUMS"
REMEDY: Final = "run `fashion-mnist export`, or restore the file"


def of(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, names: Iterable[str]) -> None:
    """Write `folder`/SHA256SUMS for the files `names`, relative to `folder`, sorted by name; atomically."""
    lines = [f"{of(folder / name)}  {name}\n" for name in sorted(names)]
    atomic.write_text(folder / NAME, "".join(lines))


def read(folder: Path) -> dict[str, str]:
    """The listed checksums by name. Raises ModelError if the list is missing or invalid."""
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing, so model files cannot be verified: {REMEDY}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}): {REMEDY}") from None
    sums = {}
    for number, line in enumerate(lines, start=1):
        digest, separator, name = line.partition("  ")
        if not separator or not name or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ModelError(f"line {number} of {path} is not a checksum and a name: {REMEDY}")
        sums[name] = digest
    return sums


def verify(path: Path) -> None:
    """Compare a file with its checksum in the SHA256SUMS beside it.

    Raises ModelError if the file or the list is missing, the file is not listed, or its content differs.
    """
    sums = read(path.parent)
    if path.name not in sums:
        raise ModelError(f"{path} is not listed in the {NAME} beside it: {REMEDY}")
    try:
        digest = of(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from None
    if digest != sums[path.name]:
        raise ModelError(f"{path} does not match its checksum in {NAME} (altered, or partly replaced): {REMEDY}")
