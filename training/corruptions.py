"""The corrupted test images of the benchmark: ImageNet-C's 15 kinds in five strengths, made once and cached.

Source: Hendrycks & Dietterich 2019, arxiv.org/abs/1903.12261.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.data import dataset
from fashion_mnist.errors import DatasetError
from fashion_mnist.system import atomic

KINDS: Final = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
IMAGES: Final = 1000
"""Test images that are corrupted: 75,000 images in all."""
DEADLINE_S: Final = 3600
"""Seconds for one kind, of which zoom blur takes the most: some 300 for 1,000 images."""

_SCRIPT: Final = Path(__file__).with_name("imagecorruptions_script.py")


def load(images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]] | None:
    """For each kind uint8 [5, n, 1, h, w] of `images`, uint8 [n, 1, h, w]; None where some are still to be made."""
    paths = [_path(kind, images) for kind in KINDS]
    if not all(path.exists() for path in paths):
        return None
    return {kind: np.load(path)[:, :, None] for kind, path in zip(KINDS, paths, strict=True)}


def make(images: NDArray[np.uint8], python: Path, tell: Callable[[str, int], None]) -> dict[str, NDArray[np.uint8]]:
    """As `load`, where those that are missing are made by `python`, an interpreter that has `imagecorruptions`.

    `tell` is told each kind as it begins, and how many of them are done. Raises DatasetError.
    """
    for done, kind in enumerate(KINDS):
        tell(kind, done)
        path = _path(kind, images)
        if path.exists():
            continue
        with atomic.replacing(path) as temporary:
            try:
                subprocess.run(
                    [python, _SCRIPT, kind, str(len(images)), temporary],
                    input=images.tobytes(),
                    capture_output=True,
                    timeout=DEADLINE_S,
                    check=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                )
            except subprocess.CalledProcessError as error:
                last = error.stderr.decode(errors="replace").strip()[-300:]
                raise DatasetError(f"{kind} cannot be made ({last}): remove .venv-benchmarks and try again") from None
            except subprocess.TimeoutExpired:
                raise DatasetError(f"{kind} was not made within {DEADLINE_S} s: try again on an idle machine") from None
    found = load(images)
    assert found is not None
    return found


def _path(kind: str, images: NDArray[np.uint8]) -> Path:
    key = hashlib.sha256(_SCRIPT.read_bytes() + images.tobytes()).hexdigest()[:16]
    return dataset.cache_folder() / "corruptions" / key / f"{kind}.npy"
