"""The learning rate as a function of the step."""

import math

from torch.optim import Optimizer


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
