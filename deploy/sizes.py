"""How large the images are, as a Markdown table: `python deploy/sizes.py`, of those that have been built.

All figures are MB, millions of bytes, as Docker counts them, unpacked. What lies below our layers is the base image.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

TARGETS: Final = ("embedded", "torchserve-cpu", "torchserve-gpu", "loadtest", "train")

ABOVE_BASE_MB: Final = {"embedded": 225, "torchserve-cpu": 1600}
"""What an image may take above its base."""

FIRST: Final = "tini"
"""What our first layer installs, and no base image does."""

DEADLINE_S: Final = 60


def layers(image: str, environment: Mapping[str, str] | None = None) -> list[tuple[str, int]] | None:
    """An image's layers above its base, the newest first: instruction and bytes. None where it is not built.

    `environment` says which Docker, where it is not the process's own. Raises RuntimeError where it does not answer.
    """
    command = ["docker", "history", "--no-trunc", "--human=false", "--format", "{{json .}}", image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=environment)
    if done.returncode:
        if "No such image" in done.stderr:
            return None
        raise RuntimeError(done.stderr.strip())
    found = []
    for line in done.stdout.splitlines():
        layer = json.loads(line)
        found.append((str(layer["CreatedBy"]), int(layer["Size"])))
        if FIRST in layer["CreatedBy"] and "apt-get" in layer["CreatedBy"]:
            return found
    raise RuntimeError(f"{image} was not built of deploy/Dockerfile")


def row(target: str, found: list[tuple[str, int]]) -> str:
    """One image's row: above the base, and of it Debian's packages, Python's, and the project with its model."""
    debian = sum(size for made_by, size in found if "apt-get" in made_by)
    python = sum(size for made_by, size in found if "/opt/venv" in made_by)
    above = sum(size for _, size in found)
    bound = f"{ABOVE_BASE_MB[target]:,}" if target in ABOVE_BASE_MB else ""
    figures = [f"{size / 1e6:,.0f}" for size in (above, debian, python)] + [f"{(above - debian - python) / 1e6:.1f}"]
    return f"| `{target}` | {' | '.join(figures)} | {bound} |"


def main() -> None:
    """Print the table."""
    print("| image | above the base, MB | Debian's packages | Python's packages | project and model | bound |")
    print("| --- | --- | --- | --- | --- | --- |")
    for target in TARGETS:
        found = layers(f"fashion-mnist:{target}")
        if found is None:
            print(f"fashion-mnist:{target} is not built: left out", file=sys.stderr)
        else:
            print(row(target, found))


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")
