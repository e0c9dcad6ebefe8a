"""Any convolutional network on the visible patches only, so that it can be pretrained by masking (SparK).

Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023. Every cell
is computed. Hidden cells are set to zero before and after each convolution, so no pixel is carried into or through
them. Batch statistics and the averages of squeeze-and-excitation are those of the visible cells.

The network is left as it is: its calls of PyTorch's functions are intercepted while it runs. For our own U-Net,
`sempre.models.masked_unet` gives the same maps and computes the visible cells only.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sempre.errors import InputError
from sempre.models.encoders import TimmEncoder, check_encoder, check_maps
from sempre.models.packed import PATCH

# Layers whose answer at one place depends on hidden places in a way that zeros do not undo.
MIXING = (nn.GroupNorm, nn.InstanceNorm2d, nn.MultiheadAttention, GlobalResponseNorm)


class MaskedEncoder(nn.Module):
    """Runs a network that gives maps on the visible patches only, sharing (not copying) its parameters.

    `forward(images [B, C, H, W], visible [B, K])` gives the network's maps `[B, C_s, H / s, W / s]`, zero at hidden
    cells. `visible` holds the row-major ids of the visible patches of each image; H and W are multiples of 32. With
    every patch visible it is the network itself.

    Raises:
        InputError: for images whose sides 32 does not divide.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, visible: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        if height % PATCH or width % PATCH:
            raise InputError(f"images of {height}x{width} px have no whole number of {PATCH} px patches")
        masked = _Masked(visible, (height // PATCH, width // PATCH))
        with masked:
            maps = self.network(masked.hide(images))
        return [masked.hide(part) for part in maps]


def maskable_encoder(architecture: str) -> TimmEncoder:
    """A network of timm's with random weights whose maps, from its finest stride on, can be masked.

    Raises:
        InputError: for a network that timm does not have, or whose cells do not see hidden ones through convolutions
            alone.
    """
    check_encoder(architecture)
    strides = check_maps(architecture)
    network = TimmEncoder(architecture, finest=min(strides)) if len(strides) > 1 else None
    names = {type(layer).__name__ for layer in network.modules()} if network else set()
    mixing = network is None or any(isinstance(layer, MIXING) for layer in network.modules())
    if network is None or mixing or any("Attention" in name for name in names):
        raise InputError(
            f"architecture={architecture} mixes visible and hidden cells by more than convolutions: take "
            "tf_efficientnet_lite0, resnet18 or regnety_004; for ConvNeXtV2 pretrain/fcmae.py, for a vision "
            "transformer pretrain/dino.py"
        )
    return network


class _Masked(TorchFunctionMode):
    """While it is entered, functions that carry values from cell to cell see and leave zeros at hidden cells."""

    def __init__(self, visible: Tensor, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        shown = torch.zeros(len(visible), grid[0] * grid[1], dtype=torch.bool, device=visible.device)
        self.shown = shown.scatter(1, visible, True).view(-1, 1, *grid)
        self.masks: dict[int, Tensor] = {}
        self.replaced: dict[Callable, Callable] = {
            functional.conv2d: partial(self._between, functional.conv2d),
            functional.max_pool2d: partial(self._between, functional.max_pool2d),
            functional.avg_pool2d: partial(self._between, functional.avg_pool2d),
            functional.pad: partial(self._between, functional.pad),  # of convolutions that pad as TensorFlow's do
            functional.batch_norm: self._batch_norm,
            functional.adaptive_avg_pool2d: self._pooled,
            torch.Tensor.mean: self._mean,
        }

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return self.replaced.get(func, func)(*args, **(kwargs or {}))

    def hide(self, x: Tensor) -> Tensor:
        """A map `[B, C, h, w]` with zeros at hidden cells; as it is where it is no map of the whole image."""
        mask = self._mask(x)
        return x if mask is None else x * mask

    def _mask(self, x: Tensor) -> Tensor | None:
        """Of 0 and 1, `[B, 1, h, w]`, for a map `[B, C, h, w]` of a whole number of cells a patch."""
        cells = x.shape[-1] // self.grid[1] if x.ndim == 4 else 0
        if not cells or tuple(x.shape[2:]) != (cells * self.grid[0], cells * self.grid[1]):
            return None
        if cells not in self.masks:
            self.masks[cells] = self.shown.repeat_interleave(cells, 2).repeat_interleave(cells, 3)
        return self.masks[cells].to(x.dtype)

    def _between(self, func: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.hide(func(self.hide(x), *args, **kwargs))

    def _batch_norm(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        mask = self._mask(x)
        if mask is None:
            return functional.batch_norm(x, *args, **kwargs)
        rows = mask.flatten().nonzero().flatten()
        cells = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        normalised = functional.batch_norm(cells.index_select(0, rows), *args, **kwargs)
        cells = torch.zeros_like(cells, dtype=normalised.dtype).index_copy(0, rows, normalised)
        return cells.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)

    def _mean(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        axes = kwargs.get("dim", args[0] if args else None)
        mask = self._mask(x) if axes is not None and not isinstance(axes, int) and tuple(axes) == (2, 3) else None
        if mask is None:
            return torch.Tensor.mean(x, *args, **kwargs)
        return self._over_visible(x, mask, bool(kwargs.get("keepdim", args[1] if len(args) > 1 else False)))

    def _pooled(self, x: Tensor, output_size: Any) -> Tensor:
        mask = self._mask(x)
        if mask is None or output_size not in (1, (1, 1), [1, 1]):
            return functional.adaptive_avg_pool2d(x, output_size)
        return self._over_visible(x, mask, keepdim=True)

    def _over_visible(self, x: Tensor, mask: Tensor, keepdim: bool) -> Tensor:
        return (x * mask).sum((2, 3), keepdim=keepdim) / mask.sum((2, 3), keepdim=keepdim)
