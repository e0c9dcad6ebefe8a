"""Groups of parameters, the rate of each step, and moving averages of weights with their batch statistics."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel


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


def cosine_with_warmup(step: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Linear warm-up from 0 to `peak` over `warmup` steps, then half a cosine down to `final` at step `total`.

    Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def steps_with_warmup(
    step: int, total: int, warmup: int, peak: float, milestones: tuple[float, ...] = (0.6, 0.8), factor: float = 0.1
) -> float:
    """Linear warm-up from 0 to `peak` over `warmup` steps; from each milestone, a share of `total`, times `factor`.

    He et al., "Deep residual learning", CVPR 2016; the warm-up of Goyal et al., "Accurate, large minibatch SGD", 2017.
    """
    passed = sum(step >= milestone * total for milestone in milestones)
    return peak * min(1.0, (step + 1) / max(1, warmup)) * factor**passed


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set every parameter group's learning rate to `rate` times the group's own `lr_scale` (1 where it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


class AveragedTraining(nn.Module):
    """A network's losses for the training loop, and `average.module`, the moving average of the network's weights.

    `forward(image=…, **true)` gives the losses of the network's answer to the images. Call `follow` after each step.

    Args:
        network: that is trained.
        losses: a dict of scalar losses, of the network's answer and what is true.
        decay: of the moving average, a step.
    """

    def __init__(self, network: nn.Module, losses: Callable[..., dict[str, Tensor]], decay: float):
        super().__init__()
        self.network, self.losses = network, losses
        self.average = AveragedModel(network, multi_avg_fn=bias_corrected(decay)).requires_grad_(False)

    def forward(self, image: Tensor, **true: Tensor) -> dict[str, Tensor]:
        return self.losses(self.network(image), **true)

    def follow(self) -> None:
        """Let the average take in the network's weights as they are now."""
        self.average.update_parameters(self.network)


def bias_corrected(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The exponential moving average for torch's `AveragedModel(multi_avg_fn=…)`, corrected for its beginning.

    A plain average of decay d holds a share d^n of the first weights after n steps: 22 % of random ones after 750 steps
    at d = 0.998. Here every step counts as it would after infinitely many, as in Adam's moments (Kingma and Ba, ICLR
    2015): the newest weights enter with a share of (1 - d) / (1 - d^(n + 1)).
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = (1 - decay) / (1 - decay ** (torch.as_tensor(count) + 1))
        for old, new in zip(averaged, current, strict=True):
            old.lerp_(new, share.to(old.dtype))

    return update


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the means and variances of batch normalisation to their averages over `batches`, `[B, C, H, W]` each.

    The running averages that training leaves lag behind the weights, and so does what is predicted with them (Wu and
    Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3). The network is in evaluation mode afterwards.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's name for the average over all batches
    network.train()
    for images in batches:
        network(images)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
