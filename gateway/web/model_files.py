"""What a version of the model brings along for people to look at, as files."""

import json
import logging
from typing import Any, Final

from fashion_mnist.errors import ModelError
from fashion_mnist.explanation import Explainer
from fashion_mnist.model_store import MISTAKES, MISTAKES_SPRITE, model_task
from fashion_mnist.predictions import JSON
from fashion_mnist.system.checksums import verify
from fashion_mnist.task import sample_file
from gateway.http.static import TYPES, File
from gateway.models.versions import Version

log = logging.getLogger(__name__)

NETWORK: Final = "network.json"
_NO_MISTAKES: Final = "this version of the model has no mistakes to show: `fashion-mnist export` makes them"
NAMES: Final = {
    NETWORK: "this version of the model has no layers to show: `fashion-mnist export` makes them",
    MISTAKES: _NO_MISTAKES,
    MISTAKES_SPRITE: _NO_MISTAKES,
}
"""The files by name, and what is said where one is missing."""


def files_of(version: Version, explainer: Explainer | None) -> dict[str, File]:
    """The files of a version, by name, those that it has; its samples are among them. Takes some 30 ms."""
    found: dict[str, File] = {}
    if explainer is not None:
        found[NETWORK] = _json({"model_version": version.name, **explainer.network})
    try:
        found |= _mistakes(version)
    except (ModelError, OSError, ValueError, KeyError) as error:
        log.error("mistakes cannot be shown", extra={"version": version.name, "reason": str(error)})
    for name in map(sample_file, model_task(version.folder).classes):
        path = version.folder / name
        if path.exists():
            found[name] = File(path.read_bytes(), TYPES[path.suffix], compress=False)
    return found


def _mistakes(version: Version) -> dict[str, File]:
    path, sprite_path = (version.folder / name for name in (MISTAKES, MISTAKES_SPRITE))
    if not (path.exists() and sprite_path.exists()):
        return {}
    for each in (path, sprite_path):
        verify(each)
    content = json.loads(path.read_bytes())
    sprite = File(sprite_path.read_bytes(), TYPES[sprite_path.suffix], compress=False)
    content["model_version"] = version.name
    content["sprite"] = {"url": f"/{MISTAKES_SPRITE}?{sprite.hash}", **content["sprite"]}
    return {MISTAKES: _json(content), MISTAKES_SPRITE: sprite}


def _json(content: Any) -> File:
    return File(json.dumps(content).encode(), JSON)
