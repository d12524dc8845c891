"""Muon: momentum whose every step is made orthogonal, for weights that are matrices.

Source: Keller Jordan et al. 2024, kellerjordan.github.io/posts/muon. torch.optim.Muon takes matrices only; a
convolution's weights are one too, with a row for each filter.
"""

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

NEWTON_SCHULZ_STEPS: Final = 5
COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""They bring singular values to between 0.7 and 1.2 in five steps, rather than to 1 in many."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; weight decay is decoupled, as in AdamW."""

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step, from the gradients that lie at the parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum: Tensor = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
                rows, columns = ahead.shape
                update = orthogonalise(ahead) * max(1, rows / columns) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update.view_as(parameter), alpha=group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Near the closest matrix whose singular values are all one, by Newton-Schulz iterations."""
    rows, columns = matrix.shape
    # The smaller of the two products is the cheaper one.
    wide = matrix.T if rows > columns else matrix
    wide = wide / (wide.norm() + 1e-7)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(square, square, square, beta=cubic, alpha=quintic), wide, beta=linear)
    return wide.T if rows > columns else wide
