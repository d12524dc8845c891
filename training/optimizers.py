"""A recipe's optimizers, without torch's compiler, whose import takes longer than three epochs of `quick`."""

import inspect
from collections.abc import Sequence

import torch
from torch import nn

from training.muon import Muon
from training.recipes import Recipe

for _name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    # Each would import the compiler, only to tell it to leave the method alone. Another torch ignores this attribute.
    _method = inspect.unwrap(getattr(torch.optim.Optimizer, _name))
    vars(_method).setdefault("__dynamo_disable", _method)


class _Adam(torch.optim.Adam):
    # The same step without its wrapper, which imports the compiler too.
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class _AdamW(torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def optimizers(
    recipe: Recipe, parameters: Sequence[nn.Parameter], *, stacked: bool = False
) -> list[torch.optim.Optimizer]:
    """A recipe's optimizers for a network's parameters, in their order; `stacked` as in `training.muon.Muon`.

    Each of their groups has its rate's peak under "highest".
    """
    weights = [parameter for parameter in parameters if parameter.ndim > 1 + stacked]
    biases = [parameter for parameter in parameters if parameter.ndim == 1 + stacked]
    found: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        # The last layer's rows are classes, which are not to be made equally strong.
        *matrices, last = weights
        found.append(Muon(matrices, lr=recipe.muon_learning_rate, weight_decay=recipe.weight_decay, stacked=stacked))
        groups = [{"params": [last, *biases], "weight_decay": 0.0}]
    else:
        groups = [
            {"params": weights, "weight_decay": recipe.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ]
    kind = _Adam if recipe.optimizer == "adam" else _AdamW
    # One fused kernel a step instead of a dozen a parameter.
    found.append(kind(groups, lr=recipe.learning_rate, fused=True))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["highest"] = group["lr"]
    return found
