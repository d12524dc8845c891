"""Reading the lock files."""

import dataclasses
import re
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Pin:
    """One locked package."""

    name: str
    version: str
    """With its local part, such as 2.13.0+cpu."""
    sha256: tuple[str, ...]
    """Of each file that may be installed, in hexadecimal digits."""

    @property
    def public_version(self) -> str:
        """Without its local part, as PyPI has it."""
        return self.version.partition("+")[0]


def read(lock: Path) -> list[Pin]:
    """What a lock file pins."""
    entry = r"^([a-z0-9.-]+)==([^\s;]+)(?: ;[^\\\n]*)?((?: ?\\\n +--hash=sha256:[0-9a-f]{64})*)"
    pins = re.findall(entry, lock.read_text(), re.MULTILINE)
    return [Pin(name, version, tuple(re.findall("[0-9a-f]{64}", hashes))) for name, version, hashes in pins]
