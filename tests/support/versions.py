"""Other versions of the model, and those who load them into a running server."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch

from export.release import release
from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.model_store import CARD, model_store_path, model_version
from fashion_mnist.network import load_weights, save_weights
from fashion_mnist.settings import Settings
from fashion_mnist.system import checksums
from tests.support.command import ServeCommand

TIMEOUT_S = 120.0
FIRST = model_version(model_store_path(Settings.from_environment()))
"""The released version, which a server starts with."""
SWAPPED = ("T-shirt/top", "Shirt")
"""The two classes that version 2.0 takes for each other, so that one knows its answers from the released one's."""


def export_swapped(model_store: Path, folder: Path, dataset: Dataset) -> Path:
    """Export version 2.0 into a folder: the released network with two of its outputs exchanged."""
    classifier = load_weights(model_store / "weights.pt")
    places = [CLASSES.index(name) for name in SWAPPED]
    with torch.no_grad():
        for parameter in (classifier.network.out.weight, classifier.network.out.bias):
            parameter[places] = parameter[places[::-1]]
    folder.mkdir()
    save_weights(classifier, folder / "weights.pt")
    return release(folder / "weights.pt", folder / "2.0", dataset, version="2.0").folder


def swapped(label: str) -> str:
    """What version 2.0 says of an image of which the released one says this."""
    return SWAPPED[1 - SWAPPED.index(label)] if label in SWAPPED else label


def altered(folder: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a version with another card, its checksums right."""
    shutil.copytree(folder, target)
    card = json.loads((target / CARD).read_text())
    change(card)
    (target / CARD).write_text(json.dumps(card))
    checksums.write(target, checksums.read(target))
    return target


def named(folder: Path, target: Path, version: str) -> Path:
    """A copy of a version under another name."""
    return altered(folder, target, lambda card: card.update(model_version=version))


@dataclass
class Operator:
    """Who changes the versions of a server, by its admin port."""

    command: ServeCommand
    key: str = ""

    def ask(self, method: str, path: str = "", **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        url = f"http://127.0.0.1:{self.command.state().admin_port}/models{path}"
        return httpx.request(method, url, timeout=TIMEOUT_S, headers={**headers, **more.pop("headers", {})}, **more)

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = done(self.ask("GET"))["versions"]
        return found

    def names(self) -> tuple[str, list[str]]:
        """The default, and all."""
        rows = self.rows()
        (default,) = (row["version"] for row in rows if row["default"])
        return default, [row["version"] for row in rows]

    def try_to_load(self, folder: Path, **more: Any) -> httpx.Response:
        return self.ask("POST", json={"folder": str(folder), **more})

    def load(self, folder: Path, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = done(self.try_to_load(folder, **more))
        return found

    def use(self, version: str) -> None:
        done(self.ask("PUT", f"/{version}/set-default"))

    def unload(self, version: str) -> None:
        done(self.ask("DELETE", f"/{version}"))

    def reset(self) -> None:
        """Back to the released version alone."""
        if FIRST in self.names()[1]:
            self.use(FIRST)
            for version in self.names()[1]:
                if version != FIRST:
                    self.unload(version)


def done(response: httpx.Response) -> Any:
    """What was answered, where it was not refused."""
    assert response.status_code == 200, response.text
    return response.json()
