"""The images, built of this checkout with the pip settings of this machine, which none of them keeps."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.request import getproxies

from requirements import lock
from tests.containers.engine import Engine

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD_S: Final = 900.0


def build(engine: Engine, target: str, context: Path) -> str:
    """Build one target of deploy/Dockerfile; its tag."""
    tag = f"fashion-mnist:{target}"
    arguments = {**_pip_addresses(), **{f"{kind}_proxy": proxy for kind, proxy in getproxies().items()}}
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # Of the host's network, because a proxy may listen on its loopback.
    engine.docker(
        "build", "--quiet", "--network", "host", "--file", context / "deploy" / "Dockerfile", "--target", target,
        "--tag", tag, *options, context, timeout_s=BUILD_S,
    )  # fmt: skip
    return tag


def context(folder: Path) -> Path:
    """A copy of what the images are built of, with this machine's wheel and certificates in deploy/wheels/."""
    ignored = shutil.ignore_patterns("__pycache__", "results", "*.mar", "*.whl", "*.pem")
    for name in {"requirements", "deploy", "model_store", *_rooms()}:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / ".dockerignore", folder)
    wheels = folder / "deploy" / "wheels"
    name = lock.CPU_BUILD.replace("==", "-")
    for source in _pip_setting("find-links"):
        for wheel in Path(source).glob(f"{name}-cp311-*.whl"):
            os.link(wheel, wheels / wheel.name) if _same_disk(wheel, wheels) else shutil.copy(wheel, wheels)
    certificates = [*_pip_setting("cert"), os.environ.get("SSL_CERT_FILE", "")]
    if certificates[0]:
        shutil.copy(certificates[0], wheels / "ca.pem")
    return folder


def _rooms() -> list[str]:
    return [path.parent.name for path in ROOT.glob("*/__init__.py")]


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _pip_addresses() -> dict[str, str]:
    """Where pip finds packages, as build arguments; folders of this machine are no use in a container."""
    found = {}
    for setting in ("index-url", "extra-index-url"):
        if addresses := [value for value in _pip_setting(setting) if value.startswith("http")]:
            found[f"PIP_{setting.upper().replace('-', '_')}"] = " ".join(addresses)
    return found


def _pip_setting(name: str) -> list[str]:
    """The values of one of pip's settings, from its files or the environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    for line in reversed(done.stdout.splitlines()):
        setting, _, value = line.partition("=")
        if setting.partition(".")[2] == name:
            return value.strip("'").replace("\\n", " ").split()
    return []
