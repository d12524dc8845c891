"""Augmentation as a few vector operations on a batch; there is no loop over images."""

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, *, flip: bool, shift: int, generator: torch.Generator) -> Tensor:
    """Images, uint8 [n, channels, height, width], each mirrored with a chance of one half and moved by up to `shift`
    pixels each way. `generator` lives on the CPU, so that every device draws the same.
    """
    count, _, height, width = images.shape
    device = images.device
    if flip:
        mirrored = torch.rand(count, generator=generator).lt(0.5).to(device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if shift:
        rows, columns = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator).to(device)
        padded = functional.pad(images, (shift, shift, shift, shift))
        rows = rows + torch.arange(height, device=device)
        columns = columns + torch.arange(width, device=device)
        image = torch.arange(count, device=device)[:, None, None]
        # Indexed dimensions come first, the channels between them last.
        images = padded[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return images
