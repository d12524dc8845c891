"""Files that a running server will need again, kept in memory too: temporary folders are cleaned by others."""

from collections.abc import Iterable
from pathlib import Path

from fashion_mnist.system import atomic


class KeptFiles:
    """The content of some files."""

    def __init__(self) -> None:
        self._contents: dict[Path, bytes] = {}

    def keep(self, paths: Iterable[Path]) -> None:
        """Read these files, and all in these folders; they are not to change any more. Raises OSError."""
        for path in paths:
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            self._contents.update((file, file.read_bytes()) for file in files)

    def forget(self, folder: Path) -> None:
        """Keep none of the files in a folder any more."""
        self._contents = {path: content for path, content in self._contents.items() if folder not in path.parents}

    def restore(self) -> None:
        """Write those anew that are gone. Raises OSError."""
        for path, content in self._contents.items():
            if not path.exists():
                atomic.write_bytes(path, content)
