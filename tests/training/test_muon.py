"""Muon: a step whose singular values are about one, whatever the gradient's."""

import torch
from torch import nn

from training.muon import Muon, orthogonalise


def test_singular_values_come_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((6, 25), (120, 192), (60, 120), (192, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=generator)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_it_finds_the_bottom_of_a_bowl() -> None:
    target = torch.randn(12, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    weight = nn.Parameter(torch.zeros(12, 6, 5, 5))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    losses = []
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
        loss = (weight - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
