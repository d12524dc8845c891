"""Pictures of what preparation does to one photograph, step by step."""

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.preparation import prepare
from fashion_mnist.preparation.background import coordinates
from fashion_mnist.preparation.fitting import Floats, fit, grayscale, reduce
from fashion_mnist.preparation.garment import separate, without_shadow
from fashion_mnist.system import atomic
from fashion_mnist.task import FASHION_MNIST
from training.photographs import Pixels, photograph, read

KIND: Final = "mixed"
SIDE: Final = 168
_COLOURS: Final = 48


def write_pictures(image: Pixels, seed: int, folder: Path) -> list[Path]:
    """One PNG for each step, of a photograph of `image`, uint8 [28, 28]; gives their paths, in order."""
    picture = read(photograph([image], KIND, seed))
    small = reduce(picture, -(-max(picture.shape) // SIDE))
    found = separate(small)
    if found is None:
        raise ValueError(f"nothing stands out from the photograph of seed {seed}")
    height, width, _ = small.shape
    without = without_shadow(found)
    ground = found.background.at(coordinates(height), coordinates(width))
    difference = (ground - small) @ found.direction
    steps = {
        "photograph": small,
        "ground": ground,
        "difference": 255 * difference / max(float(difference.max()), 1.0),
        "garment": np.where(without.mask, 255, np.where(found.mask, 110, 0)),
        "prepared": _enlarged(prepare(picture, None, FASHION_MNIST, "auto")[0][0]),
        "plain": _enlarged(fit(grayscale(picture), GEOMETRY)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (name, step) in enumerate(steps.items(), 1):
        paths.append(folder / f"preparation-{number}-{name}.png")
        atomic.write_bytes(paths[-1], _png(np.asarray(step, np.float32)))
    return paths


def _enlarged(image: Pixels) -> Pixels:
    times = SIDE // max(image.shape)
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _png(step: Floats) -> bytes:
    content = io.BytesIO()
    picture = Image.fromarray(np.clip(step, 0, 255).astype(np.uint8))
    picture.quantize(_COLOURS).save(content, "PNG", optimize=True)
    return content.getvalue()
