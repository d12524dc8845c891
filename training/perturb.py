"""Random changes to the images of an epoch, drawn anew each time: small affine maps, and what cameras and light do.

All of it works on uint8 [n, c, h, w] and is drawn from the generator given: the same generator, the same images.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

SMALL: Final = (6.0, 0.06, 0.0)
"""Standard deviations of an affine map that leaves an object as it might be photographed: degrees of rotation; scale
and shear; pixels of shift."""
LARGE: Final = (15.0, 0.13, 1.7)
"""The same of one that a network should bear."""

_BANK: Final = 50
"""Kernels and fields of light that are drawn for an epoch, of which its images share each."""
_RADIUS: Final = 4
"""Of a kernel, in pixels."""


def affine(images: Images, share: float, deviations: tuple[float, float, float], random: np.random.Generator) -> Images:
    """A copy with `share` of the images rotated, scaled, sheared and moved about their centre; black moves in."""
    chosen = np.flatnonzero(random.random(len(images)) < share)
    degrees, relative, pixels = deviations
    height, width = images.shape[2:]
    angle = np.radians(random.normal(0, degrees, len(chosen)))
    scale = np.exp(random.normal(0, relative, (len(chosen), 2)))
    shear = random.normal(0, relative, len(chosen))
    cos, sin = np.cos(angle), np.sin(angle)
    # Rotation times shear times scale, which need not be the same both ways.
    matrices = np.empty((len(chosen), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = cos * scale[:, 0], (cos * shear - sin) * scale[:, 1]
    matrices[:, 1, 0], matrices[:, 1, 1] = sin * scale[:, 0], (sin * shear + cos) * scale[:, 1]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrices[:, :, 2] = centre - matrices[:, :, :2] @ centre + random.normal(0, pixels, (len(chosen), 2))
    changed = images.copy()
    for place, matrix in zip(chosen, matrices, strict=True):
        for plane, target in zip(images[place], changed[place], strict=True):
            cv2.warpAffine(plane, matrix, (width, height), dst=target)
    return changed


def corrupt(images: Images, share: float, random: np.random.Generator) -> Images:
    """A copy in which `share` of the images are changed in one way, or in two, in an order that a camera might have.

    The ways are a large affine map, blur, a veil of light, less contrast, and noise.
    """
    changed = images.copy()
    chosen = np.flatnonzero(random.random(len(images)) < share)
    first, second = random.integers(0, len(_WAYS), (2, len(chosen)))
    has_second = random.random(len(chosen)) < _SECOND
    for place, change in enumerate(_WAYS):
        places = chosen[(first == place) | (has_second & (second == place))]
        changed[places] = change(changed[places], random)
    return changed


def _large_affine(images: Images, random: np.random.Generator) -> Images:
    return affine(images, 1.0, LARGE, random)


def _blur(images: Images, random: np.random.Generator) -> Images:
    """Out of focus, or moved while exposed: a Gaussian, longer in one direction than across."""
    blurred = np.empty_like(images)
    drawn = random.integers(0, _BANK, len(images))
    for place, kernel in enumerate(_blur_kernels(random)):
        chosen = np.flatnonzero(drawn == place)
        if len(chosen):
            # As one tall image, which takes a fraction of the time of many small ones.
            padded = np.pad(images[chosen], ((0, 0), (0, 0), (_RADIUS, _RADIUS), (0, 0)), mode="edge")
            tall = cv2.filter2D(padded.reshape(-1, images.shape[3]), -1, kernel, borderType=cv2.BORDER_REPLICATE)
            blurred[chosen] = tall.reshape(padded.shape)[:, :, _RADIUS:-_RADIUS]
    return blurred


def _blur_kernels(random: np.random.Generator) -> Floats:
    """float32 [_BANK, side, side], each of sum 1."""
    y, x = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
    angle = random.uniform(0, np.pi, (_BANK, 1, 1))
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    short = random.uniform(0.3, 1.6, (_BANK, 1, 1))
    long = short * np.where(random.random((_BANK, 1, 1)) < 0.5, 1, random.uniform(1, 3, (_BANK, 1, 1)))
    kernels = np.exp(-((along / long) ** 2 + (across / short) ** 2) / 2)
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    return np.asarray(kernels, np.float32)


def _veil(images: Images, random: np.random.Generator) -> Images:
    """Light over the image, even, in patches or in streaks, added up to white, or mixed in, as fog is."""
    fields = _light_fields(images.shape[2:], random)[random.integers(0, 5 * _BANK, len(images)), None]
    light = random.uniform(0.1, 0.7, (len(images), 1, 1, 1)).astype(np.float32) * fields
    mixed = (random.random((len(images), 1, 1, 1)) < 0.5).astype(np.float32)
    return _bytes(images * (1 - mixed * light) + 255 * light)


def _light_fields(shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """float32 [5 * _BANK, height, width], from 0 to about 1: two fifths even, two in patches, one in streaks."""
    fields = np.ones((5 * _BANK, *shape), np.float32)
    for field in fields[2 * _BANK : 4 * _BANK]:
        patches = random.random((random.integers(2, 8),) * 2, dtype=np.float32)
        cv2.resize(patches, shape[::-1], dst=field, interpolation=cv2.INTER_CUBIC)
    specks = random.random((_BANK, *shape), dtype=np.float32) ** 4
    for field, one, kernel in zip(fields[4 * _BANK :], specks, _blur_kernels(random), strict=True):
        cv2.filter2D(one, -1, kernel, dst=field)
        field /= field.max()
    return fields


def _contrast(images: Images, random: np.random.Generator) -> Images:
    """Pixels nearer to their image's mean, and darker or brighter mid-tones."""
    factors = random.uniform(0.25, 1, (len(images), 1, 1, 1)).astype(np.float32) ** 2
    means = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    gammas = np.exp(random.normal(0, 0.25, (len(images), 1, 1, 1))).astype(np.float32)
    values = (means + factors * (images - means)) / 255
    return _bytes(255 * np.power(np.clip(values, 0, 1), gammas))


def _noise(images: Images, random: np.random.Generator) -> Images:
    """Of the sensor, the same for all pixels or growing with their light; some pixels black or white."""
    sigma = random.uniform(2, 30, (len(images), 1, 1, 1)).astype(np.float32)
    with_light = random.random((len(images), 1, 1, 1)) < 0.4
    strength = sigma * np.where(with_light, np.sqrt(images / np.float32(255)) * np.float32(1.5), np.float32(1))
    noisy = images + strength * random.standard_normal(images.shape, dtype=np.float32)
    impulses = np.flatnonzero(random.random(len(images)) < 0.2)
    rate = random.uniform(0, 0.05, (len(impulses), 1, 1, 1)).astype(np.float32)
    drawn = random.random((len(impulses), *images.shape[1:]), dtype=np.float32)
    noisy[impulses] = np.where(drawn < rate, 0, np.where(drawn > 1 - rate, 255, noisy[impulses]))
    return _bytes(noisy)


_WAYS: Final = (_large_affine, _blur, _veil, _contrast, _noise)
_SECOND: Final = 0.3
"""Chance of a second way."""


def _bytes(values: NDArray[np.floating]) -> Images:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
