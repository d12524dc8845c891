"""The versions of the model that are to be served: what the supervisor wants, and what each gateway is told of it."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from fashion_mnist.engines import MODEL_FILES
from fashion_mnist.errors import FashionMNISTError, ModelError, VersionError
from fashion_mnist.model_store import CARD, EXPLAIN, MISTAKES, MISTAKES_SPRITE, VERSION, model_card
from fashion_mnist.system import checksums
from fashion_mnist.task import SAMPLES, Task, sample_file

FILES: Final = (*MODEL_FILES.values(), CARD)
"""What is served of a folder that `fashion-mnist export` wrote, each with its checksum."""

SHOWN: Final = (EXPLAIN, MISTAKES, MISTAKES_SPRITE)
"""What is shown of it to people, likewise, where it is there."""

MOST_BYTES: Final = 64 * 2**20
"""Longest of these files; the released ones have some 0.1 MiB."""


@dataclasses.dataclass(frozen=True)
class Version:
    """One version that is loaded, or to be loaded."""

    name: str
    number: int
    """Of this loading of it: what is loaded later has a higher one, also under the same name."""
    folder: Path
    """The server's own copy of its files: what becomes of those that it was loaded from is of no importance."""
    torchserve: int = 0
    """The port of its TorchServe; unused with the other engines."""
    open: bool = True
    """Whether clients may ask it; until then it is being checked."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """From what `dataclasses.asdict` made, and JSON of it."""
        return cls(**{**mapping, "folder": Path(mapping["folder"])})


@dataclasses.dataclass(frozen=True)
class Versions:
    """All of them, in the order in which they were loaded, and which one answers requests that name none."""

    default: str
    versions: tuple[Version, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """From what `dataclasses.asdict` made, and JSON of it."""
        return cls(mapping["default"], tuple(Version.from_mapping(version) for version in mapping["versions"]))

    def only_open(self) -> "Versions":
        """Without those that are being checked."""
        return dataclasses.replace(self, versions=tuple(version for version in self.versions if version.open))


class VersionReport(NamedTuple):
    """What one gateway tells of a version."""

    requests: int
    """Answered with it."""
    ready: bool
    checks_passed: int
    checks_failed: int


class VersionCounters:
    """What one gateway counts of a version, and whether that one is ready: a file that outlives the gateway."""

    def __init__(self, path: Path) -> None:
        """Count on from what is in the file, if it is there."""
        if not path.exists():
            path.write_bytes(bytes(8 * len(VersionReport._fields)))
        self._found = np.memmap(path, np.float64, "r+")
        self._found[1] = 0
        self.requests, _, self.checks_passed, self.checks_failed = map(int, self._found)

    def canary(self, right: bool) -> None:
        """A canary got its label, or it did not."""
        self.checks_passed += right
        self.checks_failed += not right

    def write(self, ready: bool) -> None:
        """Let other processes see how things stand."""
        self._found[:] = self.requests, ready, self.checks_passed, self.checks_failed

    @staticmethod
    def read(path: Path) -> VersionReport:
        """What a gateway wrote; nothing, and not ready, where it has not written yet."""
        try:
            requests, ready, right, failed = np.fromfile(path, np.float64, len(VersionReport._fields))
        except (OSError, ValueError):
            return VersionReport(0, False, 0, 0)
        return VersionReport(int(requests), bool(ready), int(right), int(failed))


def counters_path(metrics: Path, number: int) -> Path:
    """Where the gateway that has its figures in `metrics` counts the requests of a version."""
    return metrics.with_name(f"{metrics.name}-v{number}")


def check_folder(folder: Path, task: Task) -> dict[str, Any]:
    """The card of a folder that `fashion-mnist export` wrote, after comparing its files with their checksums.

    Raises VersionError where it is none, or where a file is missing, altered, or of a model of another task.
    """
    if not folder.is_dir():
        raise VersionError(f"{folder} is no folder on the server's machine: name one that `fashion-mnist export` wrote")
    try:
        shown = [name for name in SHOWN if (folder / name).exists()]
        for path in (folder / name for name in (*FILES, *shown, checksums.NAME)):
            if path.exists() and not (path.is_file() and path.stat().st_size <= MOST_BYTES):
                raise ModelError(f"{path} is no file, or longer than {MOST_BYTES:,} bytes: restore it")
        for name in (*FILES, *shown):
            checksums.verify(folder / name)
        card = model_card(folder)
    except FashionMNISTError as error:
        raise VersionError(error.message) from None
    except OSError as error:
        raise VersionError(f"{folder} cannot be read ({error.strerror}): let the server's user read it") from None
    try:
        version, found = card["model_version"], Task.from_card(card)
    except (KeyError, TypeError, ModelError):
        raise VersionError(f"{folder / CARD} is no model card: run `fashion-mnist export`") from None
    if (found.name, found.classes, found.geometry) != (task.name, task.classes, task.geometry):
        raise VersionError(
            f"{folder / CARD} is of another model, {found.name!r} of {len(found.classes)} classes and images of "
            f"{found.geometry}: here {task.name!r} of {len(task.classes)} and {task.geometry} is served"
        )
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise VersionError(
            f"the version in {folder / CARD} is {str(version)[:80]!r}: export it with letters, digits, '.', '_' and "
            "'-', such as --version 1.1"
        )
    return card


def accuracy(card: Mapping[str, Any]) -> float | None:
    """The share of the test images that a model names rightly, by its card; None where that says nothing of it."""
    evaluation = card.get("evaluation")
    found = evaluation.get("accuracy") if isinstance(evaluation, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def keep(source: Path, target: Path, task: Task, canary: bytes) -> None:
    """Copy what is served and shown of a model store into a folder of the server's own, those files that are there.

    The canary goes with it: all versions are asked for the same image, whatever they brought along. Raises OSError.
    """
    target.mkdir(mode=0o700)
    (target / SAMPLES).mkdir()
    for name in (*FILES, *SHOWN, *map(sample_file, task.classes), checksums.NAME):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    (target / Task.from_card(model_card(target)).health_check.image).write_bytes(canary)
