"""The dense segmenter: maps of foreground, depth and boundary, from which one watershed makes the instances.

A residual U-Net (Ronneberger et al., MICCAI 2015) whose maps follow Naylor et al., IEEE Trans. Medical Imaging 2019
(distance) and Chen et al., "DCAN", CVPR 2016 (boundary). `sempre.segmentation.decode` makes instances of them.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD
from sempre.models.encoders import TimmEncoder
from sempre.models.unet_encoder import WIDTHS, ResidualBlock, UNetEncoder
from sempre.models.weight_files import WEIGHTS, build_fitting, describing, read_details, save_model
from sempre.segmentation.decode import Decoding
from sempre.segmentation.maps import DenseSettings, Network

EDGE_WEIGHT = 4.0  # how much more the cross-entropy of a boundary's pixel counts
DEPTH_WEIGHT, BOUNDARY_WEIGHT = 2.0, 0.3  # in the sum of losses
GROUND_WEIGHT = 0.2  # of the depth's error outside of particles


@dataclass(frozen=True)
class DenseOptions:
    """The network's size."""

    architecture: str = "unet_medium"  # unet_small, unet_medium, or a name of timm's


class DenseSegmenter(nn.Module):
    """`forward(images [B, 1, H, W])`, in [0, 1], gives three maps `[B, 3, H / 2, W / 2]`; H, W are multiples of 32.

    The maps are foreground (logit), depth (0 at an instance's outline, 1 where it is deepest) and boundary (logit).
    """

    def __init__(self, options: DenseOptions | None = None):
        super().__init__()
        options = options or DenseOptions()
        self.architecture = options.architecture
        unet = options.architecture in WIDTHS
        self.encoder = UNetEncoder(options.architecture) if unet else TimmEncoder(options.architecture)
        # Way up as wide as the U-Net's way down, whatever the encoder.
        widths = self.encoder.widths if unet else WIDTHS["unet_medium"]
        self.inward = nn.ModuleList(
            nn.Identity() if own == width else nn.Conv2d(own, width, 1)
            for own, width in zip(self.encoder.widths, widths, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(deep, shallow, 1) for shallow, deep in pairwise(widths))
        self.up = nn.ModuleList(ResidualBlock(width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.encoder((images - MEAN) / STD)
        *maps, x = [inward(part) for inward, part in zip(self.inward, maps, strict=True)]
        for lateral, up, skipped in zip(reversed(self.lateral), reversed(self.up), reversed(maps), strict=True):
            x = up(skipped + functional.interpolate(lateral(x), scale_factor=2, mode="bilinear"))
        return self.head(x)


def dense_losses(maps: Tensor, foreground: Tensor, depth: Tensor, boundary: Tensor) -> dict[str, Tensor]:
    """The losses of maps `[B, 3, h, w]` against the true ones, each `[B, h, w]`; scalars, in float32.

    Foreground: cross-entropy in which boundaries count five times (Ronneberger et al., MICCAI 2015, section 3), plus a
    soft Dice loss of each image. Depth: absolute error. Boundary: cross-entropy.
    """
    maps = maps.float()
    inside = maps[:, 0].sigmoid()
    shared, total = (inside * foreground).sum((1, 2)), (inside + foreground).sum((1, 2))
    dice = 1 - (2 * shared + 1) / (total + 1)
    entropy = functional.binary_cross_entropy_with_logits(maps[:, 0], foreground, reduction="none")
    losses = {
        "foreground": (entropy * (1 + EDGE_WEIGHT * boundary)).mean() + dice.mean(),
        "depth": DEPTH_WEIGHT * ((maps[:, 1] - depth).abs() * (foreground + GROUND_WEIGHT)).mean(),
        "boundary": BOUNDARY_WEIGHT * functional.binary_cross_entropy_with_logits(maps[:, 2], boundary),
    }
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


def as_network(model: DenseSegmenter, precision: torch.dtype = torch.float32) -> Network:
    """The model as `sempre.segmentation.maps` runs one: an image `[h, w]` in, probability and depth out."""
    model = model.eval()
    device = next(model.parameters()).device

    @torch.inference_mode()
    def network(image: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(image)[None, None].to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            foreground, depth, _ = model(batch)[0].float()
        return torch.stack([foreground.sigmoid(), depth]).cpu().numpy()

    return network


def save_dense(folder: str | Path, model: DenseSegmenter, details: dict) -> None:
    """Write `model.safetensors` and `model.json` into `folder`; each file is whole or absent, the details come last.

    Args:
        details: what JSON holds; `network` are the fields of `DenseOptions` that `model` was built with. The rest is
            for whoever uses the model: `kind`, `settings` (fields of `DenseSettings`), `percentiles`, `class_names`,
            `pixel_size_nm` and `micrograph` (the path of a micrograph to try the model on).
    """
    save_model(folder, model, details)


def describe_dense(options: DenseOptions, settings: DenseSettings, labelled: LabelledSet) -> dict:
    """What `model.json` says of a segmenter that was fitted to micrographs of `labelled`.

    Args:
        settings: how its maps are made and read.
    """
    return {
        "kind": "dense",
        "network": asdict(options),
        "settings": asdict(settings),
        "percentiles": labelled.percentiles,
        "class_names": ["particle"],
        "pixel_size_nm": labelled.common_pixel_size_nm(),
    }


def load_dense(folder: str | Path) -> tuple[DenseSegmenter, dict]:
    """The segmenter in `folder`, in evaluation mode on the CPU, and its details.

    Raises:
        InputError: for a missing or damaged file, and for weights that are not those of the network described.
    """
    folder = Path(folder)
    details = read_details(folder, "a finished run's folder, such as runs/dense/repeat-0")
    with describing(folder, "dense segmenter"):
        options = DenseOptions(**details["network"])
        if options.architecture not in WIDTHS and not timm.is_model(options.architecture):
            raise ValueError(f"'architecture' is {options.architecture!r}")
    model = build_fitting(lambda: DenseSegmenter(options), folder / WEIGHTS)
    return model.eval(), details


def read_settings(details: dict) -> DenseSettings:
    """How the model's maps are made and read, of its details.

    Raises:
        InputError: for details that do not say so.
    """
    try:
        fields = dict(details["settings"])
        return DenseSettings(
            **{**fields, "decoding": Decoding(**fields["decoding"]), "scales": tuple(fields["scales"])}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the model's details have no usable settings ({error}): fine-tune it again") from error
