"""Other people's software, each in an environment of its own, because it pins what we pin otherwise.

An environment is made when a test first asks for it, from the lock file beside this one, and kept in `.environments/`.
"""

from pathlib import Path
from typing import Final

from requirements import environments

LOCKS: Final = Path(__file__).parent


def programs(name: str) -> Path:
    """The folder of an environment's programs, `python` among them, with what `NAME.txt` pins installed."""
    return environments.programs(LOCKS / f"{name}.txt", environments.ROOT / ".environments" / name)
