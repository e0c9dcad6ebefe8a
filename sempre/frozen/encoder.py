"""A frozen backbone as an encoder, where its cells lie, and grey levels alone as one to beat."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.nn import functional

from sempre.deploy.released import find_weights, released_names
from sempre.errors import InputError
from sempre.images.levels import LUMINANCE
from sempre.images.normalise import MEAN, STD
from sempre.images.resize import resize_to
from sempre.models.backbones import load_backbone
from sempre.models.dense import load_dense
from sempre.models.encoders import check_maps, create_network
from sempre.models.initial_weights import imagenet_network
from sempre.models.official_vit import load_official_vit
from sempre.models.original_fcmae import SUFFIXES, holds_original_weights
from sempre.models.timm_networks import TimmNetwork
from sempre.models.unet_encoder import UNetEncoder


@dataclass(frozen=True)
class Grid:
    """Cells of a micrograph: `height` x `width` px, embedded at `input_height` x `input_width` px, cells of `cell` px.

    The last row and column of cells may reach beyond the micrograph.
    """

    height: int
    width: int
    input_height: int
    input_width: int
    cell: int

    @property
    def rows(self) -> int:
        return -(-self.input_height // self.cell)

    @property
    def columns(self) -> int:
        return -(-self.input_width // self.cell)

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    def cells_at(self, points: np.ndarray) -> np.ndarray:
        """Rows and columns of cells `[P, 2]` that points `[P, 2]` (y, x in px of the micrograph) lie in.

        Raises:
            InputError: for a point outside the micrograph.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        outside = (points < 0).any(1) | (points >= (self.height, self.width)).any(1)
        if outside.any():
            y, x = points[outside][0]
            raise InputError(f"the point y={y:g} x={x:g} is outside the micrograph of {self.height}x{self.width} px")
        scale = np.array([self.input_height / self.height, self.input_width / self.width])
        return np.minimum((points * scale / self.cell).astype(int), (self.rows - 1, self.columns - 1))

    def boxes(self, cells: np.ndarray) -> np.ndarray:
        """What cells `[P]`, counted row by row, cover of the micrograph: x0, y0, x1, y1 in its px, float64 `[P, 4]`."""
        rows, columns = np.divmod(cells, self.columns)
        corners = np.stack([columns, rows, columns + 1, rows + 1], axis=-1) * self.cell
        reached = np.minimum(corners, 2 * (self.input_width, self.input_height))
        return reached * (2 * (self.width / self.input_width, self.height / self.input_height))

    def to_cells(self, values: np.ndarray) -> np.ndarray:
        """Mean in each cell of values `[height, width]`, float32 `[rows, columns]`: of a mask, the share covered."""
        values = resize_to(np.asarray(values, np.float32), (self.input_height, self.input_width))
        padding = (0, self.rows * self.cell - self.input_height), (0, self.columns * self.cell - self.input_width)
        sums, counts = (
            np.pad(layer, padding).reshape(self.rows, self.cell, self.columns, self.cell).sum((1, 3))
            for layer in (values, np.ones_like(values))
        )
        return sums / counts

    def to_pixels(self, values: np.ndarray) -> np.ndarray:
        """Values of cells `[rows, columns]` at every px, float32 `[height, width]`: bilinear between cells' centres."""
        tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
        at_input = functional.interpolate(tensor, scale_factor=self.cell, mode="bilinear", align_corners=False)
        at_input = at_input[:, :, : self.input_height, : self.input_width]
        size = (self.height, self.width)
        return functional.interpolate(at_input, size, mode="bilinear", align_corners=False)[0, 0].numpy()


REDUCTIONS = (4, 8, 16, 32)  # px a cell: as the stages of a ConvNeXtV2


class IntensityHistogram(nn.Module):
    """The distribution of grey levels in each cell, in place of a network: `bins` overlapping triangular bins.

    It answers to timm's `forward_intermediates`, with the strides of a ConvNeXtV2's four stages.
    """

    centres: Tensor

    def __init__(self, bins: int = 16):
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, bins))
        self.feature_info = [{"num_chs": bins, "reduction": reduction} for reduction in REDUCTIONS]

    def forward_intermediates(self, images: Tensor, indices: list[int], **_) -> list[Tensor]:
        """Histograms `[B, bins, h, w]` of grey values `[B, 1, H, W]` in [0, 1], each of sum 1."""
        spacing = self.centres[1] - self.centres[0]
        distance = (images - self.centres[:, None, None]).abs() / spacing
        return [functional.avg_pool2d((1 - distance).clamp(min=0), REDUCTIONS[index]) for index in indices]


RANDOM, INTENSITY = "random:", "intensity"
SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}


@dataclass(frozen=True)
class Features:
    """Of a batch: `cells` float32 `[B, rows, columns, C]`, `class_token` `[B, C]` or None if it has none."""

    cells: Tensor
    class_token: Tensor | None


@dataclass(frozen=True)
class Encoder:
    """A frozen network, read out after one of its layers.

    `layer` counts a convolutional network's stages or a vision transformer's blocks, negative ones from the last. Grey
    values in [0, 1] become (x - mean) / std, channel by channel. `percentiles` are those that became 0 and 1 in the
    micrographs that the network was pretrained on, None where nothing says so.
    """

    network: nn.Module
    name: str  # as the user gave it
    architecture: str  # timm's name, or one of our U-Nets'
    layer: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: tuple[float, float] | None = None

    @property
    def layers(self) -> int:
        return len(self.feature_info)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Of each layer its channels (`num_chs`) and px a cell (`reduction`), as timm's networks tell them."""
        return cast(TimmNetwork, self.network).feature_info

    @property
    def cell(self) -> int:
        """Side in px of the square that one cell stands for."""
        return self.feature_info[self.layer]["reduction"]

    @property
    def read_out(self) -> str:
        """The layer and its cells, in words."""
        return f"layer {self.layer % self.layers + 1} of {self.layers}, {self.cell} px"

    def deepest(self, cell: int) -> int:
        """The last layer whose cells are at most `cell` px, counted from the end; where there is none, the first.

        Of a vision transformer, whose blocks have cells of one size, that is the last block; of a convolutional network
        the stage that has not yet become too coarse.
        """
        fine = [layer for layer, info in enumerate(self.feature_info) if info["reduction"] <= cell]
        return (fine[-1] if fine else 0) - self.layers

    @property
    def width(self) -> int:
        """Channels of a cell."""
        return self.feature_info[self.layer]["num_chs"]

    @property
    def device(self) -> torch.device:
        return next(iter(self.network.state_dict().values())).device

    @property
    def has_class_token(self) -> bool:
        return getattr(self.network, "cls_token", None) is not None

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the weights, the architecture, the layer and the normalisation: what the features depend on."""
        settings = (self.architecture, self.layer % self.layers, self.mean, self.std)
        digest = hashlib.sha256(repr(settings).encode())
        for name, weight in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def to(self, device: torch.device) -> "Encoder":
        """The same encoder, its network moved to `device`."""
        self.network.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """The features of grey values `[B, 1, H, W]` or colours `[B, 3, H, W]`, uint8 or float32 in [0, 1]; any H, W.

        Images are continued by their mirror image, down and to the right, to a whole number of cells.
        """
        return self.features(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """What the network takes, `[B, channels, h, w]`, of grey values `[B, 1, H, W]` or colours `[B, 3, H, W]`.

        A network for grey values sees the luminance of colours, one for colours three equal channels of grey values.
        """
        if images.dtype == torch.uint8:
            images = images.float() / 255
        if images.shape[1] > len(self.mean):
            images = (images * images.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
        images = pad_to_cells(images, self.cell).expand(-1, len(self.mean), -1, -1)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        layout = torch.channels_last if isinstance(self.network, ConvNeXt) else torch.contiguous_format
        return ((images - mean) / std).contiguous(memory_format=layout)

    def features(self, inputs: Tensor) -> Features:
        """The features of what `normalise` gives, with gradients where they are wanted."""
        arguments: dict[str, Any] = {
            "indices": [self.layer % self.layers],
            "norm": True,
            "stop_early": True,
            "intermediates_only": True,
        }
        if isinstance(self.network, UNetEncoder):
            cells = nn.Sequential(*self.network.levels[: self.layer % self.layers + 1])(inputs)
            return Features(cells.permute(0, 2, 3, 1).float(), None)
        if not getattr(self.network, "num_prefix_tokens", 0):
            (cells,) = cast(TimmNetwork, self.network).forward_intermediates(inputs, **arguments)
            return Features(cells.permute(0, 2, 3, 1).float(), None)
        found: Any = cast(TimmNetwork, self.network).forward_intermediates(
            inputs, return_prefix_tokens=True, **arguments
        )
        ((cells, prefix),) = found
        return Features(cells.permute(0, 2, 3, 1).float(), prefix[:, 0].float() if self.has_class_token else None)


def open_encoder(backbone: str, weights: str = "", layer: int = -1, seed: int = 0) -> Encoder:
    """The encoder that `backbone` names, frozen.

    Args:
        backbone: a `backbone/` folder; a file of the original ConvNeXtV2 code; an official DINO or DINOv2 file
            (`dinov2_vitb14_pretrain.pth`), whose name tells the architecture; a timm name, with timm's own weights;
            `random:<timm name>`; a released dense model's name (`particles`), for its encoder; or `intensity`, the grey
            levels alone. `@<layer>` behind any of these goes before `layer`.
        weights: a file of the original or the official code for the architecture that `backbone` names.
        layer: stage or block that is read out, negative ones count from the last.
        seed: of random weights.

    Raises:
        InputError: for what is none of these, weights that cannot be had, or a layer that the network does not have.
    """
    name, percentiles = f"{backbone} {weights}".strip(), None
    backbone, own_layer = split_layer(backbone)
    layer = layer if own_layer is None else own_layer
    file = Path(weights or backbone)
    is_file = bool(weights) or file.suffix in SUFFIXES
    if file.is_dir() or (is_file and holds_original_weights(file)):
        network, details = load_backbone(file)
        architecture = details.architecture
        if weights and backbone != architecture:
            raise InputError(f"{weights} is a {architecture}, not a {backbone}: give backbone={architecture}")
        mean, std = (_by_channel(details.normalisation[key], details.input_channels) for key in ("mean", "std"))
        percentiles = details.percentiles if file.is_dir() else None
    elif is_file:
        architecture = backbone if weights else official_architecture(file)
        network, mean, std = _timm_network(architecture)
        load_official_vit(network, file)
    elif backbone.startswith(RANDOM):
        architecture = backbone.removeprefix(RANDOM)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, *_ = _timm_network(architecture, channels=1)
        mean, std = (MEAN,), (STD,)
    elif backbone == INTENSITY:
        architecture, network, mean, std = INTENSITY, IntensityHistogram(), (0.0,), (1.0,)
    elif backbone in released_names():
        segmenter, _ = load_dense(find_weights(backbone))
        architecture, mean, std = segmenter.architecture, (MEAN,), (STD,)
        network = getattr(segmenter.encoder, "body", segmenter.encoder)  # of a timm network that itself
    elif timm.is_model(backbone):
        architecture = backbone
        network, mean, std = _timm_network(architecture, pretrained=True)
    else:
        raise InputError(
            f"backbone={backbone} is neither a backbone/ folder, an official .pth file, a name of timm's, "
            f"random:<name of timm's>, intensity nor {' nor '.join(released_names())}, perhaps with @<layer> behind it"
        )
    network.eval().requires_grad_(False)
    if isinstance(network, UNetEncoder | ConvNeXt):
        # Sooner done, and cells come out in the order of memory that they are kept in.
        network.to(memory_format=torch.channels_last)
    encoder = Encoder(network, name, architecture, layer, mean, std, percentiles)
    if not -encoder.layers <= layer < encoder.layers:
        raise InputError(f"layer={layer} is none of the {encoder.layers} of {architecture}: count from 0, or from -1")
    return encoder


def split_layer(backbone: str) -> tuple[str, int | None]:
    """The name of a backbone without `@<layer>`, and that layer, None where none is given."""
    found = None if Path(backbone).exists() else re.fullmatch(r"(.+)@(-?\d+)", backbone)
    return (found[1], int(found[2])) if found else (backbone, None)


def official_architecture(file: Path) -> str:
    """timm's name of the architecture that an official file's name tells.

    Raises:
        InputError: when the name tells none.
    """
    if found := re.match(r"dinov2_vit([sblg])14(_reg4)?_pretrain", file.name):
        return f"vit_{SIZES[found[1]]}_patch14{found[2] or ''}_dinov2"
    if found := re.match(r"dino_(?:deit|vit)(small|base)(8|16)_pretrain", file.name):
        return f"vit_{found[1]}_patch{found[2]}_224"
    raise InputError(f"the name of {file} tells no architecture: give backbone=<timm's name> weights={file}")


def pad_to_cells(images: Tensor, cell: int) -> Tensor:
    """Images `[B, C, H, W]` continued to a whole number of cells, by reflection where they are large enough."""
    height, width = images.shape[2:]
    down, right = -height % cell, -width % cell
    if not down and not right:
        return images
    return functional.pad(images, (0, right, 0, down), "reflect" if down < height and right < width else "replicate")


def _by_channel(value: float | list[float], channels: int) -> tuple[float, ...]:
    """A number a channel, of one for all or of one each."""
    return tuple(value) if isinstance(value, list) else (float(value),) * channels


def _timm_network(
    architecture: str, channels: int = 3, pretrained: bool = False
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """A headless network of timm, and the mean and deviation of the levels that its weights want."""
    check_maps(architecture)
    network = imagenet_network(architecture, option="weights") if pretrained else create_network(architecture, channels)
    levels: Any = network.pretrained_cfg
    return network, tuple(levels["mean"]), tuple(levels["std"])
