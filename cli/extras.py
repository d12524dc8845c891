"""Finds the extra of this project that installs a missing package."""

import importlib.util
import re
from importlib import metadata
from typing import Final

DISTRIBUTION: Final = "fashion-mnist-serving"
_DISTRIBUTIONS: Final = {
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "mlperf_loadgen": "mlcommons-loadgen",
    "model_archiver": "torch-model-archiver",
    "opentelemetry": "opentelemetry-sdk",
    "pythonjsonlogger": "python-json-logger",
    "ts": "torchserve",
}
"""Modules whose package has another name."""
_COMMANDS: Final = {"serve": ("gateway", "torchserve"), "archive": ("torchserve",), "loadtest": ("loadtest",)}
"""The preferred extras of a command, if several install a package; for other commands it is `train`."""


def require(*modules: str) -> None:
    """Raise ModuleNotFoundError for the first of the modules that is not installed.

    Use it for modules that another process imports, whose error would come too late.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def advice(error: ModuleNotFoundError, command: str) -> str | None:
    """What to install for `fashion-mnist COMMAND`, in one line; None if no extra installs the module."""
    module = (error.name or "").partition(".")[0]
    found = _extras(_DISTRIBUTIONS.get(module, module.replace("_", "-").lower()))
    if not found:
        return None
    first = [extra for extra in _COMMANDS.get(command, ("train",)) if extra in found]
    extra = (first or found)[0]
    return (
        f"`fashion-mnist {command}` needs {module}, of the extra {extra}: pip install '{DISTRIBUTION}[{extra}]', or in "
        "a checkout `make setup-everything`"
    )


def _extras(distribution: str) -> list[str]:
    """The extras that install a package, by the installed metadata."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    pattern = rf"{re.escape(distribution)}\b(?!-).*\bextra == ['\"]([a-z]+)['\"]"
    return [match[1] for requirement in requirements if (match := re.match(pattern, requirement, re.IGNORECASE))]
