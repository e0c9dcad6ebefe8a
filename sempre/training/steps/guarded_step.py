"""The optimiser's step, left out where the gradient is not finite; the device decides, and nobody waits for it."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


class GuardedStep:
    """Steps of torch's SGD, Adam or AdamW that change nothing where the gradient's norm is not finite.

    The optimiser's fused kernels look at the verdict on the device; it is the one that they know from loss scaling.
    What else a step changes is put back: running statistics, memory banks, a centre (the model's buffers), and moving
    averages of the weights, which follow behind the optimiser's step (the model's parameters that it does not train).

    A step is: `begin()`, forward and backward, `step(norm)`.

    Args:
        model: whose buffers are put back; not wrapped.
        optimizer: torch's own, its state already loaded, if any.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer):
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # Of sharded weights, which no method with averages has, the rest are those of heads that never change.
        followers = [w for w in model.parameters() if id(w) not in trained and not isinstance(w, DTensor)]
        self.buffers, self.optimizer = [*model.buffers(), *followers], optimizer
        self.before: list[Tensor] = []
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = True, False
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if "step" in state:  # of a checkpoint whose steps were counted on the CPU
                    state["step"] = state["step"].to(parameter.device, torch.float32)
                if group.get("momentum") and state.get("momentum_buffer") is None:
                    # The kernel leaves momentum uninitialised when the very first step is the one left out.
                    state["momentum_buffer"] = torch.zeros_like(parameter)

    def begin(self) -> None:
        """Remember the buffers, and the parameters that are not the optimiser's."""
        self.before = [buffer.detach().clone() for buffer in self.buffers]

    @torch.no_grad()
    def undo(self) -> None:
        """Put the buffers back and drop the gradients, in place of the step."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)
        self.optimizer.zero_grad()

    @torch.no_grad()
    def step(self, norm: Tensor) -> Tensor:
        """The optimiser's step if the gradient's `norm`, a scalar, is finite; whether it was left out, bool."""
        skipped = norm.isfinite().logical_not()
        self.optimizer.found_inf = skipped.float()  # pyright: ignore[reportAttributeAccessIssue]  # loss scaling's
        self.optimizer.step()
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(torch.where(skipped, before, buffer))
        return skipped
