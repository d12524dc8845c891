"""Environments beside `.venv`, for what pins other packages than ours or what only one command needs.

The standard library alone, so that a bare Python 3.11 can make them.
"""

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ROOT / "requirements"
TOOLS: Final = LOCKS / "tools.txt"
DOCS: Final = LOCKS / "docs.txt"
DEADLINE_S: Final = 900


def programs(lock: Path, folder: Path) -> Path:
    """The folder of an environment's programs, `python` among them, with what `lock` pins installed.

    It is made when it is first asked for, or was made from another lock. Raises RuntimeError where the packages cannot
    be had; pip's own words are on stderr then.
    """
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp, found = folder / "installed", folder / "bin"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        # Two commands in one checkout: the second waits, and finds the work done.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            venv.create(folder, with_pip=True, clear=True)
            options = ["--disable-pip-version-check", "-qq", "--no-deps", "--require-hashes"]
            command: list[str | Path] = [found / "python", "-m", "pip", "install", *options, "-r", lock]
            # stdout is for what the callers print.
            try:
                subprocess.run(command, stdout=sys.stderr, timeout=DEADLINE_S, check=True)
            except subprocess.SubprocessError as error:
                raise RuntimeError(f"the packages of {lock.name} cannot be installed: {error}") from None
            stamp.write_text(wanted)
    return found


def tools() -> Path:
    """The programs of `tools.txt`, pip-audit among them."""
    return programs(TOOLS, ROOT / ".environments" / TOOLS.stem)


def docs() -> Path:
    """The programs of `docs.txt`: Zensical, and a `python` that has proselint."""
    return programs(DOCS, ROOT / ".environments" / DOCS.stem)


if __name__ == "__main__":
    print({"tools": tools, "docs": docs}[sys.argv[1]]())
