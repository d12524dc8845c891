"""Environments for servers of others: their packages pinned by themselves, beside ours in none of them."""

import hashlib
import re
import subprocess
import venv
from pathlib import Path
from typing import Final

from fashion_mnist.errors import UsageError

LOCKS: Final = Path(__file__).parent
ROOT: Final = LOCKS.parents[1]
DEADLINE_S: Final = 900


def version(name: str) -> str:
    """The version of the package after which an environment is named."""
    (found,) = re.findall(rf"^{name}==(\S+)", (LOCKS / f"{name}.txt").read_text(), flags=re.MULTILINE)
    return str(found)


def python(name: str) -> Path:
    """The Python of the environment that NAME.txt pins, created and filled where it is not yet.

    Raises UsageError where its packages cannot be fetched.
    """
    lock = LOCKS / f"{name}.txt"
    folder = ROOT / ".venv-benchmarks" / name
    stamp = folder / "installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    interpreter = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return interpreter
    venv.create(folder, with_pip=True, clear=True)
    command: list[str | Path] = [
        interpreter,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
    ]
    try:
        subprocess.run(
            [*command, "--no-deps", "-r", lock], capture_output=True, text=True, timeout=DEADLINE_S, check=True
        )
    except subprocess.CalledProcessError as error:
        raise UsageError(f"the packages of {lock.name} cannot be installed: {error.stderr[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"the packages of {lock.name} did not come within {DEADLINE_S} s: try again") from None
    stamp.write_text(wanted)
    return interpreter
