"""Converts photographs to images like the data set's: a bright garment on black that fills the frame and is centred."""

from typing import Final, Literal, TypeAlias, cast, get_args

import numpy as np

from fashion_mnist.errors import BadParameter
from fashion_mnist.preparation.fitting import (
    Pixels,
    blend,
    centre,
    fit,
    fitted_size,
    grayscale,
    resample,
)
from fashion_mnist.preparation.garment import FAINT, Garment, brightest, find
from fashion_mnist.preparation.paper import as_the_paper
from fashion_mnist.preparation.steps import ORIGINAL, Steps
from fashion_mnist.task import Geometry, Task

Mode: TypeAlias = Literal["auto", "always", "paper", "none"]
"""auto: prepare photographs, but not images like the data set's. always: also prepare grayscale images of the network's
size. paper: the steps of the data set's authors. none: only scale and centre."""

MODES: Final = get_args(Mode)
DEFAULT_MODE: Final = "auto"
PREPARES_ALL: Final = frozenset({"always", "paper"})
"""The modes that also prepare images of the network's size, raw pixels among them."""

NOTHING_FOUND: Final = "no garment found"
"""Reported if nothing stands out from the background: the prepared image is black, and the prediction `unknown`."""

_BLACK: Final = 10.0
_BRIGHT: Final = 200.0
_LARGE: Final = 0.75
"""An image is like the data set's if its border is at most _BLACK, its brightest pixel at least _BRIGHT, and its
garment takes at least the share _LARGE of the frame's height or width."""

_PALE: Final = 96.0
"""Transparent images of at least this mean brightness are laid over black, others over white."""


def parse_mode(text: str) -> Mode:
    """The parameter `prepare`. Raises BadParameter."""
    if text not in MODES:
        raise BadParameter(f"prepare is {text[:40]!r}: use {', '.join(MODES[:-1])} or {MODES[-1]}")
    return cast(Mode, text)


def needs_preparation(pixels: Pixels, task: Task, mode: Mode) -> bool:
    """Whether `prepare` does more than scale `pixels`."""
    geometry = task.geometry
    if geometry.channels > 1 or not task.bright_on_black:
        return False
    own = pixels.shape[:2] == (geometry.height, geometry.width) and (pixels.ndim == 2 or _is_gray(pixels))
    return mode in PREPARES_ALL or (mode == "auto" and not own)


def check_mode(mode: Mode, task: Task) -> None:
    """Raise BadParameter for a mode that does not suit the task's images."""
    if mode in PREPARES_ALL and (task.geometry.channels > 1 or not task.bright_on_black):
        raise BadParameter(
            f"prepare is {mode!r}, which produces bright objects on black, and the images of this model are not such: "
            "use auto or none"
        )


def prepare(
    pixels: Pixels,
    alpha: Pixels | None,
    task: Task,
    mode: Mode,
    whole: tuple[int, int] | None = None,
    steps: Steps | None = None,
) -> tuple[Pixels, list[str]]:
    """Prepare one decoded picture. Returns uint8 [channels, height, width] of the task, and the changes made.

    `pixels` is uint8 [h, w], or [h, w, 3], RGB, of at least 1 x 1; `alpha`, uint8 [h, w], its opacity; `whole` is the
    original width and height if `pixels` were reduced; `steps` keeps a picture of each step. Pictures for networks that
    take colour, or whose images are not bright on black, are only scaled, and centred or cropped. The time is
    proportional to the number of pixels: some 4 ms for 448 x 448.
    """
    whole = whole or (pixels.shape[1], pixels.shape[0])
    if task.geometry.channels > 1:
        return _color(pixels, alpha, task, whole, steps)
    prepared, done = _gray(pixels, alpha, task, mode, whole, steps)
    return prepared[None], done


def _color(
    pixels: Pixels, alpha: Pixels | None, task: Task, whole: tuple[int, int], steps: Steps | None
) -> tuple[Pixels, list[str]]:
    """`prepare` for a network that takes RGB."""
    done, geometry = [], task.geometry
    if steps is not None:
        steps.show(ORIGINAL, pixels, alpha)
    if alpha is not None and alpha.min() < 255:
        pixels = blend(pixels, alpha, 0)
        done.append("transparency laid over black")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        done.append("converted to RGB")
    if pixels.shape[:2] != (geometry.height, geometry.width):
        done.append(_resized(whole))
    return np.ascontiguousarray(fit(pixels, geometry, task.resize).transpose(2, 0, 1)), done


def _gray(
    pixels: Pixels, alpha: Pixels | None, task: Task, mode: Mode, whole: tuple[int, int], steps: Steps | None
) -> tuple[Pixels, list[str]]:
    """`prepare` for a network that takes grayscale; returns uint8 [height, width]."""
    done: list[str] = []
    geometry = task.geometry
    own_size = pixels.shape[:2] == (geometry.height, geometry.width)
    if pixels.ndim == 3 and _is_gray(pixels):
        pixels = np.ascontiguousarray(pixels[:, :, 0])
    if steps is not None:
        steps.show(ORIGINAL, pixels, alpha)
    untouched = mode == "none" or not task.bright_on_black or (mode == "auto" and own_size and pixels.ndim == 2)
    if alpha is not None and alpha.min() < 255:
        white = mode == "paper" or (not untouched and _mean_brightness(pixels, alpha) < _PALE)
        pixels = blend(pixels, alpha, 255 if white else 0)
        done.append(f"transparency laid over {'white' if white else 'black'}")
        if steps is not None:
            steps.show(done[-1], pixels)
    if mode == "paper":
        return _paper(pixels, geometry, done, whole, steps)
    if not untouched:
        garment = find(pixels, geometry)
        if garment is None:
            return np.zeros((geometry.height, geometry.width), np.uint8), [*done, NOTHING_FOUND]
        if not _is_known(garment):
            return _prepared(pixels, garment, geometry, done, whole, steps)
    gray = grayscale(pixels)
    if pixels.ndim == 3:
        done.append("converted to grayscale")
        if steps is not None:
            steps.show(done[-1], gray)
    if not own_size:
        done.append(_resized(whole))
    return fit(gray, geometry, task.resize), done


def _is_gray(pixels: Pixels) -> bool:
    # Some rows first: comparing all takes as long as everything else.
    return all((rows[:, :, 1:] == rows[:, :, :1]).all() for rows in (pixels[::32], pixels))


def _is_known(garment: Garment) -> bool:
    return (
        not garment.dark
        and garment.border <= _BLACK
        and garment.fills >= _LARGE
        and float(garment.values.max()) >= _BRIGHT
    )


def _prepared(
    pixels: Pixels,
    garment: Garment,
    geometry: Geometry,
    done: list[str],
    whole: tuple[int, int],
    steps: Steps | None,
) -> tuple[Pixels, list[str]]:
    box, first = garment.box, len(done)
    done.append("background removed")
    if (box.height, box.width) != pixels.shape[:2]:
        done.append(_cropped((box.height, box.width), pixels, whole))
    if pixels.ndim == 3:
        done.append("converted to grayscale")
    if garment.dark:
        done.append("inverted")
    small = resample(garment.values, *fitted_size(box.height, box.width, geometry))
    contrast = max(brightest(small), 1.0)
    small = np.where(small < FAINT * contrast, 0, small * np.float32(255 / contrast))
    done.append("contrast stretched")
    if steps is not None:
        steps.show_garment(pixels, garment, done[first:], contrast)
    if pixels.shape[:2] != (geometry.height, geometry.width):
        done.append(_resized(whole))
    return centre(small, geometry), done


def _paper(
    pixels: Pixels, geometry: Geometry, done: list[str], whole: tuple[int, int], steps: Steps | None
) -> tuple[Pixels, list[str]]:
    trimmed, prepared = as_the_paper(pixels, geometry)
    if trimmed.shape != pixels.shape:
        done.append(_cropped(trimmed.shape[:2], pixels, whole))
        if steps is not None:
            steps.show(done[-1], trimmed)
    if pixels.shape[:2] != (geometry.height, geometry.width):
        done.append(_resized(whole))
    done += ["sharpened", "inverted"]
    if pixels.ndim == 3:
        done.append("converted to grayscale")
    return prepared, done


def _mean_brightness(pixels: Pixels, alpha: Pixels) -> float:
    opacity = alpha.astype(np.float32)
    return float((grayscale(pixels) * opacity).sum() / max(float(opacity.sum()), 1.0))


def _cropped(size: tuple[int, int], pixels: Pixels, whole: tuple[int, int]) -> str:
    """The note on a crop of `pixels` to `size`, height and width, in pixels of the whole picture."""
    width, height = (
        round(cropped * original / reduced)
        for cropped, original, reduced in zip(reversed(size), whole, reversed(pixels.shape[:2]), strict=True)
    )
    return f"cropped to {width} x {height}"


def _resized(whole: tuple[int, int]) -> str:
    return f"resized from {whole[0]} x {whole[1]}"
