"""Muon: momentum whose every step is made orthogonal, for weights that are matrices, or stacks of such.

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

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        stacked: bool = False,
    ) -> None:
        """`stacked` parameters are those of several networks, one behind the other along their first dimension."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._rows_at = 1 if stacked else 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step, from the gradients that lie at the parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum: Tensor = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(self._rows_at + 1)
                rows, columns = ahead.shape[-2:]
                update = orthogonalise(ahead) * max(1, rows / columns) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update.view_as(parameter), alpha=group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Near the closest matrix whose singular values are all one, by Newton-Schulz iterations; of a stack, each."""
    rows, columns = matrix.shape[-2:]
    product = torch.addmm if matrix.ndim == 2 else torch.baddbmm
    # The smaller of the two products is the cheaper one.
    wide = matrix.mT if rows > columns else matrix
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = wide @ wide.mT
        wide = product(wide, product(square, square, square, beta=cubic, alpha=quintic), wide, beta=linear)
    return wide.mT if rows > columns else wide
