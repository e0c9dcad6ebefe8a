"""The sparse encoder of masked image modelling on MinkowskiEngine, as in the original code, over timm's parameters.

It computes what `PackedEncoder` computes, in the way of Woo et al., "ConvNeXt V2", CVPR 2023: a dense stem, then
submanifold sparse convolutions on the coordinates of the visible cells (Choy et al., "4D Spatio-Temporal ConvNets",
CVPR 2019). Their kernels are reshaped from timm's in every forward pass, so gradients reach timm's own parameters.
"""

import collections
import collections.abc
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sempre.errors import InputError
from sempre.models.original_fcmae import convolution_to_sparse, depthwise_to_sparse
from sempre.models.packed import PATCH, GatherRows, PackedEncoder, branch, cell_rows, scatter_rows
from sempre.models.timm_networks import blocks_of, depthwise_of, downsampling_of, stages_of


def import_minkowski() -> ModuleType:
    """MinkowskiEngine, with the names of `collections` that it still imports from there put back (Python 3.10 on).

    Raises:
        InputError: when it is absent or ill-installed.
    """
    if not hasattr(collections, "Sequence"):
        collections.Sequence = collections.abc.Sequence  # pyright: ignore[reportAttributeAccessIssue]  # put back
    try:
        with warnings.catch_warnings():  # it warns of being built for the CPU, as `make minkowski` builds it
            warnings.simplefilter("ignore")
            import MinkowskiEngine
    except Exception as error:  # a build for another PyTorch fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"MinkowskiEngine cannot be imported ({reason}): install it with `make minkowski`, or do without it"
        ) from error
    return MinkowskiEngine


class MinkowskiEncoder(PackedEncoder):
    """Runs a timm ConvNeXt on the visible patches with MinkowskiEngine, sharing (not copying) its parameters.

    `forward(images [B, C, H, W], visible [B, K])` gives `[B, C_last, H/32, W/32]`, zero at masked cells, like
    `PackedEncoder`. MinkowskiEngine has float32 and float64 only: autocast has no effect inside.

    Raises:
        InputError: without a working MinkowskiEngine, for images on a GPU when it was built for the CPU, and where
            `PackedEncoder` does.
    """

    def __init__(self, network: nn.Module):
        super().__init__(network)
        engine = import_minkowski()
        # Of MinkowskiEngine's layers only the geometry is used. In tuples they are no submodules: timm's parameters
        # remain the only ones. Their own are drawn at random at first, which must not shift the later draws.
        with torch.random.fork_rng(devices=[]):
            self._depthwise_layers = tuple(
                engine.MinkowskiChannelwiseConvolution(
                    convolution.in_channels, kernel_size=convolution.kernel_size[0], bias=True, dimension=2
                ).to("meta")
                for convolution in (depthwise_of(blocks_of(stage)[0]) for stage in stages_of(self.network))
            )
            self._downsampling_layers = tuple(
                engine.MinkowskiConvolution(
                    convolution.in_channels,
                    convolution.out_channels,
                    kernel_size=2,
                    stride=2,
                    bias=True,
                    dimension=2,
                ).to("meta")
                for _, convolution in map(downsampling_of, stages_of(self.network)[1:])
            )

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if height % PATCH or width % PATCH:
            raise InputError(f"images of {height}x{width} px have no whole number of {PATCH} px patches")
        with torch.autocast(images.device.type, enabled=False):
            return self._encode(images, visible)

    def _encode(self, images: Tensor, visible: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        grid = height // PATCH, width // PATCH
        x = self.network.stem(images.to(next(self.network.stem.parameters()).dtype))
        size = x.shape[2], x.shape[3]
        rows = cell_rows(visible, grid, PATCH // self.network.feature_info[0]["reduction"]).sort().values
        cells = VisibleCells.of_rows(rows, size)
        x = GatherRows.apply(x.permute(0, 2, 3, 1).flatten(0, 2), rows)
        for index, stage in enumerate(stages_of(self.network)):
            if index:
                x, cells = self._downsample(index, x, cells)
            for block in blocks_of(stage):
                convolution = depthwise_of(block)
                kernel = depthwise_to_sparse(convolution.weight)
                y, _ = cells.apply(self._depthwise_layers[index], kernel, convolution.bias, x)
                y = branch(block, y.view(batch, -1, 1, y.shape[-1]))
                x = x + block.drop_path(y).flatten(0, 2)
        return scatter_rows(x, cells.rows, (batch, *grid)).permute(0, 3, 1, 2)

    def _downsample(self, index: int, x: Tensor, cells: "VisibleCells") -> tuple[Tensor, "VisibleCells"]:
        norm, convolution = downsampling_of(stages_of(self.network)[index])
        x = functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        kernel = convolution_to_sparse(convolution.weight)
        return cells.apply(self._downsampling_layers[index - 1], kernel, convolution.bias, x)


class VisibleCells:
    """The coordinates of a stage's visible cells in MinkowskiEngine.

    MinkowskiEngine numbers the cells in an order of its own; features are kept here as `[N, C]` in the order of
    rising `rows`, image by image, as GRN and drop path, which act on each image, need them.

    Args:
        key: MinkowskiEngine's coordinate map.
        manager: MinkowskiEngine's coordinate manager.
        size: the stage's map `(H', W')`.
    """

    def __init__(self, key: Any, manager: Any, size: tuple[int, int]):
        self.key, self.manager, self.size = key, manager, size
        stride = key.get_tensor_stride()[0]
        image, y, x = manager.get_coordinates(key).long().unbind(1)
        self.rows, self._order = ((image * size[0] + y // stride) * size[1] + x // stride).sort()
        self._inverse = self._order.argsort()

    @classmethod
    def of_rows(cls, rows: Tensor, size: tuple[int, int]) -> "VisibleCells":
        """The cells at `rows` of the flattened map `[B * H' * W']`, at stride 1 of MinkowskiEngine's."""
        engine = import_minkowski()
        if rows.is_cuda and not engine.is_cuda_available():
            raise InputError(
                "this MinkowskiEngine was built for the CPU only: run on the CPU, or without MinkowskiEngine"
            )
        kind = engine.CoordinateMapType.CUDA if rows.is_cuda else engine.CoordinateMapType.CPU
        manager = engine.CoordinateManager(D=2, coordinate_map_type=kind)
        area = size[0] * size[1]
        coordinates = torch.stack([rows // area, rows % area // size[1], rows % size[1]], 1).int()
        key, _ = manager.insert_and_map(coordinates, [1, 1])
        return cls(key, manager, size)

    def apply(self, layer: Any, kernel: Tensor, bias: Tensor | None, x: Tensor) -> tuple[Tensor, "VisibleCells"]:
        """A MinkowskiEngine convolution with the given kernel on features `[N, C]`; its output and where that lies."""
        assert bias is not None  # all of ConvNeXt's convolutions have one
        features = GatherRows.apply(x, self._inverse)
        tensor = import_minkowski().SparseTensor(features, coordinate_map_key=self.key, coordinate_manager=self.manager)
        y = functional_call(layer, {"kernel": kernel, "bias": bias[None]}, (tensor,))
        if y.coordinate_map_key == self.key:
            cells = self
        else:
            stride = layer.kernel_generator.kernel_stride
            cells = VisibleCells(
                y.coordinate_map_key, self.manager, (self.size[0] // stride[0], self.size[1] // stride[1])
            )
        return GatherRows.apply(y.F, cells._order), cells
