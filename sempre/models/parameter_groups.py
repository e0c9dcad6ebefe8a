"""Groups of parameters for an optimiser: a pretrained body at falling rates, the rest at the full one."""

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn


def parameter_groups(model: nn.Module, body: nn.Module | None, weight_decay: float, layer_decay: float) -> list[dict]:
    """Layers of the timm network `body` at rates that fall with depth (Bao et al., "BEiT", ICLR 2022), all else of
    `model` at the full rate; weight decay on matrices only. `body` is a part of `model`, or None."""
    in_body = {id(parameter) for parameter in body.parameters()} if body is not None else set()
    rest = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in in_body]
    return [
        *(param_groups_layer_decay(body, weight_decay, layer_decay=layer_decay) if body is not None else ()),
        {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in rest if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def pretraining_groups(model: nn.Module, body: nn.Module, weight_decay: float, layer_decay: float) -> list[dict]:
    """As `parameter_groups` for a `layer_decay` below 1; else two groups, all at one rate, as fused optimisers like."""
    if layer_decay < 1:
        return parameter_groups(model, body, weight_decay, layer_decay)
    return param_groups_weight_decay(model, weight_decay)
