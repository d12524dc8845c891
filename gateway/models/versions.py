"""The versions of the model to be served, as the supervisor describes them to each gateway."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from fashion_mnist.engines import MODEL_FILES, graphs
from fashion_mnist.errors import FashionMNISTError, ModelError, VersionError
from fashion_mnist.model_store import (
    CARD,
    EXPLAIN,
    MISTAKES,
    MISTAKES_SPRITE,
    VERSION,
    model_card,
)
from fashion_mnist.system import checksums
from fashion_mnist.task import SAMPLES, Task, sample_file

FILES: Final = (*MODEL_FILES.values(), CARD)
"""The files that are served of a folder written by `fashion-mnist export`, each with its checksum. A store may
lack the graph of the runtime that does not serve it.
"""

SHOWN: Final = (EXPLAIN, MISTAKES, MISTAKES_SPRITE)
"""Optional files for the web page, each with its checksum."""

MAX_FILE_BYTES: Final = 2**31 - 1
"""The maximum length of each of these files: that of an ONNX file. The released ones have some 0.1 MiB."""


@dataclasses.dataclass(frozen=True)
class Version:
    """One version that is loaded or to be loaded."""

    name: str
    number: int
    """Increases with each load, also of the same name."""
    folder: Path
    """The server's own copy of its files; the original may change."""
    torchserve: str = ""
    """The folder of its TorchServe's run; "" with the other engines."""
    open: bool = True
    """Whether clients may request it; otherwise it is being checked."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, also after JSON."""
        return cls(**{**mapping, "folder": Path(mapping["folder"])})


@dataclasses.dataclass(frozen=True)
class Versions:
    """All versions in the order in which they were loaded, and the default for requests that name none."""

    default: str
    versions: tuple[Version, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, also after JSON."""
        return cls(mapping["default"], tuple(Version.from_mapping(version) for version in mapping["versions"]))

    def only_open(self) -> "Versions":
        """Without those that are being checked."""
        return dataclasses.replace(self, versions=tuple(version for version in self.versions if version.open))


class VersionReport(NamedTuple):
    """One gateway's counters of a version."""

    requests: int
    """Answered requests."""
    ready: bool
    checks_passed: int
    checks_failed: int


class VersionCounters:
    """One gateway's counters of a version and its readiness, in a file that outlives the gateway."""

    def __init__(self, path: Path) -> None:
        """Continue from the file's counters if it exists."""
        if not path.exists():
            path.write_bytes(bytes(8 * len(VersionReport._fields)))
        self._found = np.memmap(path, np.float64, "r+")
        self._found[1] = 0
        self.requests, _, self.checks_passed, self.checks_failed = map(int, self._found)

    def count_check(self, passed: bool) -> None:
        """Count a health check."""
        self.checks_passed += passed
        self.checks_failed += not passed

    def write(self, ready: bool) -> None:
        """Publish the counters to other processes."""
        self._found[:] = self.requests, ready, self.checks_passed, self.checks_failed

    @staticmethod
    def read(path: Path) -> VersionReport:
        """The counters that a gateway wrote; zeros and not ready before it has written any."""
        try:
            requests, ready, passed, failed = np.fromfile(path, np.float64, len(VersionReport._fields))
        except (OSError, ValueError):
            return VersionReport(0, False, 0, 0)
        return VersionReport(int(requests), bool(ready), int(passed), int(failed))


def counters_path(metrics: Path, number: int) -> Path:
    """The file of a version's counters, for the gateway whose metrics are in `metrics`."""
    return metrics.with_name(f"{metrics.name}-v{number}")


def check_folder(folder: Path, task: Task, runtime: str) -> dict[str, Any]:
    """Verify the checksums of a folder written by `fashion-mnist export`, and return its model card.

    Raises VersionError if it is no such folder, or if a file is missing, altered, or of a model of another task.
    """
    if not folder.is_dir():
        raise VersionError(f"{folder} is no folder on the server's machine: name one written by `fashion-mnist export`")
    try:
        shown = [name for name in SHOWN if (folder / name).exists()]
        for path in (folder / name for name in (*FILES, *shown, checksums.NAME)):
            if path.exists() and not (path.is_file() and path.stat().st_size <= MAX_FILE_BYTES):
                raise ModelError(f"{path} is no file, or longer than {MAX_FILE_BYTES:,} bytes: restore it")
        for name in (*graphs(folder, runtime), CARD, *shown):
            checksums.verify(folder / name)
        card = model_card(folder)
    except FashionMNISTError as error:
        raise VersionError(error.message) from None
    except OSError as error:
        raise VersionError(
            f"{folder} cannot be read ({error.strerror}): make it readable for the server's user"
        ) from None
    try:
        version, found = card["model_version"], Task.from_card(card)
    except (KeyError, TypeError, ModelError):
        raise VersionError(f"{folder / CARD} is no model card: run `fashion-mnist export`") from None
    if (found.name, found.classes, found.geometry) != (task.name, task.classes, task.geometry):
        raise VersionError(
            f"{folder / CARD} is of the model {found.name!r}, of {len(found.classes)} classes and images of "
            f"{found.geometry}: this server serves {task.name!r}, of {len(task.classes)} and {task.geometry}"
        )
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise VersionError(
            f"the version in {folder / CARD} is {str(version)[:80]!r}: export it with a version of letters, digits, "
            "'.', '_' and '-', such as --version 1.1"
        )
    return card


def accuracy(card: Mapping[str, Any]) -> float | None:
    """The accuracy on the test images by a model's card; None if that has none."""
    evaluation = card.get("evaluation")
    found = evaluation.get("accuracy") if isinstance(evaluation, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def copy_served_files(source: Path, target: Path, task: Task, health_image: bytes) -> None:
    """Copy the served and shown files of a model store into a folder of the server, those that exist.

    The health-check image is the server's: all versions are checked with the same one. Raises OSError.
    """
    target.mkdir(mode=0o700)
    (target / SAMPLES).mkdir()
    for name in (*FILES, *SHOWN, *map(sample_file, task.classes), checksums.NAME):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    (target / Task.from_card(model_card(target)).health_check.image).write_bytes(health_image)
