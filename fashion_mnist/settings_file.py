"""The settings file: TOML, names of settings and their values."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fashion_mnist.errors import UsageError

NAME: Final = "fashion-mnist.toml"
"""The file that is read where it lies in the working directory and none is named."""


def read(path: str | Path) -> dict[str, Any]:
    """What a settings file says, by name. Raises UsageError where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"the settings file {path} is not TOML: {error}") from None


def find(environment: Mapping[str, str], variable: str) -> str | None:
    """The absolute path of the file that a variable names, or of the one in the working directory, if there is one."""
    named = environment.get(variable)
    if named:
        return os.path.abspath(named)
    return os.path.abspath(NAME) if environment is os.environ and os.path.exists(NAME) else None
