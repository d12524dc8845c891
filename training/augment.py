"""Augmentation: how each image of a batch is moved is drawn first, then done by whoever computes with the batch."""

import torch
from torch import Tensor
from torch.nn import functional

from fashion_mnist.classes import GEOMETRY


def draw_moves(count: int, *, flip: float, shift: int, generator: torch.Generator) -> Tensor:
    """Moves for `count` images, int8 [n, 3]: mirrored (0 or 1), pixels down, pixels to the right.

    An image is mirrored with a chance of `flip`, and moved by up to `shift` pixels each way. `generator` lives on the
    CPU, so that every device draws the same.
    """
    moves = torch.zeros(count, 3, dtype=torch.int8)
    if flip:
        moves[:, 0] = torch.rand(count, generator=generator) < flip
    if shift:
        moves[:, 1:] = torch.randint(-shift, shift + 1, (count, 2), generator=generator)
    return moves


def draw_rectangles(count: int, *, chance: float, generator: torch.Generator) -> Tensor:
    """Rectangles for `count` images, int16 [n, 5]: top, left, height, width, grey. Without one, its height is 0.

    Sides are 3 to 10 pixels, and a part may lie outside the image. Source: Zhong et al. 2017, arxiv.org/abs/1708.04896.
    """
    centres = torch.randint(min(GEOMETRY.height, GEOMETRY.width), (count, 2), generator=generator)
    sides = torch.randint(3, 11, (count, 2), generator=generator)
    greys = torch.randint(256, (count, 1), generator=generator)
    sides[torch.rand(count, generator=generator) >= chance] = 0
    return torch.cat([centres - sides // 2, sides, greys], 1).to(torch.int16)


def erase(images: Tensor, rectangles: Tensor) -> Tensor:
    """Images, uint8 [n, channels, height, width], each with its rectangle of `rectangles`, int16 [n, 5], filled."""
    top, left, height, width, grey = rectangles.to(images.device, torch.int64)[:, :, None].unbind(1)
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    in_rows, in_columns = (rows >= top) & (rows < top + height), (columns >= left) & (columns < left + width)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return torch.where(inside[:, None], grey.to(torch.uint8)[:, :, None, None], images)


def move(images: Tensor, moves: Tensor) -> Tensor:
    """Images, uint8 [n, channels, height, width], each moved by its row of `moves`, int8 [n, 3]; black moves in.

    A few vector operations on the batch; there is no loop over images.
    """
    moves = moves.to(images.device, torch.int64)
    mirrored, down, right = moves.unbind(1)
    if mirrored.any():
        images = torch.where(mirrored.bool()[:, None, None, None], images.flip(-1), images)
    if shift := int(moves[:, 1:].abs().max()):
        count, _, height, width = images.shape
        padded = functional.pad(images, (shift, shift, shift, shift))
        rows = (shift - down)[:, None] + torch.arange(height, device=images.device)
        columns = (shift - right)[:, None] + torch.arange(width, device=images.device)
        image = torch.arange(count, device=images.device)[:, None, None]
        # Indexed dimensions come first, the channels between them last.
        images = padded[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return images
