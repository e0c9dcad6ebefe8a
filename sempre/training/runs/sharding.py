"""Weights, gradients and moments that are sharded over the processes (FSDP2), for networks that fill a GPU with them.

Each process keeps a share of everything. A ConvNeXt block's weights are gathered as it is called and freed after it,
those outside of blocks for a whole step. Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data
parallel", VLDB 2023.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

from accelerate import Accelerator
from accelerate.utils import convert_outputs_to_fp32
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


class Weights:
    """A model's weights as the processes hold them: each process all of them, or its share.

    `trained` is what is called in training, as Accelerate prepared it.

    Args:
        model, optimizer: not wrapped; of sharded weights both hold shares from here on, and the optimiser no state yet.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, accelerator: Accelerator):
        self.model, self.accelerator = model, accelerator
        self.sharded = accelerator.is_fsdp2
        if not self.sharded:
            self.trained = accelerator.prepare(model)
            return
        for weight in model.parameters():  # FSDP2 takes no weights whose channels come last
            weight.data = weight.data.contiguous()
        # Made now, for a model of sharded weights cannot be copied.
        self.copy = _autocast(deepcopy(model), accelerator)
        plugin = accelerator.state.fsdp_plugin
        found = {type(module).__name__ for module in model.modules() if isinstance(module, ConvNeXtBlock)}
        plugin.transformer_cls_names_to_wrap = sorted(found)
        self.trained, _ = accelerator.prepare(_autocast(model, accelerator), optimizer)

    def unsummed(self) -> AbstractContextManager:
        """Inside, gradients are not summed over the processes: those of a batch's parts are, once, with its last.

        Sharded ones are summed with each part, or each process would hold them whole in between.
        """
        return nullcontext() if self.sharded else self.accelerator.no_sync(self.trained)

    def clip_gradient(self, largest: float) -> Tensor:
        """Shorten the gradient to the norm `largest`; the norm that it had, a scalar, over all processes."""
        norm = self.accelerator.clip_grad_norm_(self.trained.parameters(), largest)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """The model of whole weights, which a process may call as often as it likes, and alone.

        All processes enter at once. Of sharded weights it is a copy, as they are now.
        """
        if not self.sharded:
            yield self.model
            return
        self.copy.load_state_dict(gathered(self.model.state_dict()))
        self.copy.to(self.accelerator.device)
        try:
            yield self.copy
        finally:
            self.copy.to("cpu")


def gathered(values: Mapping[str, Any], keep: bool = True) -> dict[str, Any]:
    """`values` with the sharded tensors among them made whole, on the CPU, in all processes that `keep` any.

    All have to ask for them at once.
    """
    kept = {}
    for name, value in values.items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            kept[name] = whole.cpu() if isinstance(value, DTensor) else whole
    return kept


def share_of(value: Any, like: Any) -> Any:
    """This process's share of the tensor `value`, which all processes have, if `like`, of its shape, is sharded."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _autocast(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with the mixed precision that Accelerate gives to all but sharded ones: of calls, not of weights."""
    model.forward = convert_outputs_to_fp32(accelerator.autocast()(model.forward))
    return model
