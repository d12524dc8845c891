"""Other people's software, each in an environment of its own, because it pins what we pin otherwise.

An environment is made when a test first asks for it, from the lock file beside this one, and kept in `.environments/`.
"""

import fcntl
import hashlib
import subprocess
import venv
from pathlib import Path
from typing import Final

LOCKS: Final = Path(__file__).parent
ENVIRONMENTS: Final = Path(__file__).parents[2] / ".environments"
DEADLINE_S: Final = 900


def programs(name: str) -> Path:
    """The folder of an environment's programs, `python` among them, with what `NAME.txt` pins installed."""
    lock, folder = LOCKS / f"{name}.txt", ENVIRONMENTS / name
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp, found = folder / "installed", folder / "bin"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as file:
        # Two test runs in one checkout: the second waits, and finds the work done.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            venv.create(folder, with_pip=True, clear=True)
            options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--require-hashes"]
            command: list[str | Path] = [found / "python", "-m", "pip", "install", *options, "-r", lock]
            subprocess.run(command, timeout=DEADLINE_S, check=True)
            stamp.write_text(wanted)
    return found
