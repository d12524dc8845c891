"""Images moved, turned and blurred, by NumPy alone."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def affine(images: NDArray[np.uint8], matrix: Values) -> Values:
    """Images [n, height, width] under an affine map, by bilinear interpolation; black moves in.

    `matrix`, [2, 3], takes a place (x, y, 1) of the old image to its place in the new one.
    """
    height, width = images.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    back = np.linalg.inv(matrix[:, :2])
    x, y = np.tensordot(back, np.stack([columns - matrix[0, 2], rows - matrix[1, 2]]), axes=1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = x - left, y - top
    # A black frame, into which all that lies outside falls.
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1))).astype(np.float64)

    def at(row: NDArray[np.int_], column: NDArray[np.int_]) -> Values:
        return framed[:, np.clip(row + 1, 0, height + 1), np.clip(column + 1, 0, width + 1)]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    blended: Values = upper * (1 - down) + lower * down
    return blended


def gaussian_blur(images: Values, deviation: float) -> Values:
    """Images [..., height, width] under a Gaussian of so many pixels; at its edges an image is mirrored."""
    reach = int(np.ceil(4 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    for axis in (-2, -1):
        length = images.shape[axis]
        around = np.abs(np.arange(-reach, length + reach))
        mirrored = np.take(images, np.minimum(around, 2 * (length - 1) - around), axis)
        images = sum(
            weight * np.take(mirrored, range(place, place + length), axis) for place, weight in enumerate(kernel)
        )
    return images
