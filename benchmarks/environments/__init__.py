"""Environments for servers of others: their packages pinned by themselves, beside ours in none of them."""

import re
from pathlib import Path
from typing import Final

from fashion_mnist.errors import UsageError
from requirements import environments

LOCKS: Final = Path(__file__).parent


def version(name: str) -> str:
    """The version of the package after which an environment is named."""
    (found,) = re.findall(rf"^{name}==(\S+)", (LOCKS / f"{name}.txt").read_text(), flags=re.MULTILINE)
    return str(found)


def python(name: str) -> Path:
    """The Python of the environment that NAME.txt pins, created and filled where it is not yet.

    Raises UsageError where its packages cannot be fetched.
    """
    folder = environments.ROOT / ".venv-benchmarks" / name
    try:
        return environments.programs(LOCKS / f"{name}.txt", folder) / "python"
    except RuntimeError as error:
        raise UsageError(str(error)) from None
