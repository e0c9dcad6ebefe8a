"""The objective of the fully convolutional masked autoencoder (FCMAE): paint the hidden half of a micrograph.

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", CVPR 2023.
"""

import numpy as np
import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from sempre.data.crops import MASK, generator
from sempre.data.datasets import normalise_batch
from sempre.models.fcmae_decoder import FCMAEDecoder, patchify, unpatchify
from sempre.models.grn import use_float32_grn
from sempre.models.packed import PackedEncoder


class FCMAE(nn.Module):
    """Encoder and decoder; `forward(image [B, C, H, W], visible [B, K])` gives `{"loss"}`.

    Images are uint8 as stored, or already normalised.

    The loss is the mean squared error over the pixels of the hidden patches, in float32. With `normalise_target` each
    patch is painted in units of its own mean and deviation (He et al., "Masked Autoencoders", CVPR 2022). `grn_scope`
    "batch" takes GRN's norm over the batch, as the original sparse code does, to continue from its weights.
    """

    def __init__(
        self,
        network: ConvNeXt,
        decoder_width: int = 512,
        normalise_target: bool = False,
        grn_scope: str = "image",
        encoder: type[PackedEncoder] = PackedEncoder,
    ):
        super().__init__()
        self.encoder = encoder(use_float32_grn(network, grn_scope))
        network.head.requires_grad_(False)  # takes no part in pretraining, but belongs to timm's network
        channels = network.stem[0].in_channels
        self.decoder = use_float32_grn(
            FCMAEDecoder(network.feature_info[-1]["num_chs"], decoder_width, channels), grn_scope
        )
        self.normalise_target = normalise_target

    def forward(self, image: Tensor, visible: Tensor) -> dict[str, Tensor]:
        image = normalise_batch(image)
        predicted = self.decoder(self.encoder(image, visible), visible).float()
        target = patchify(image).float()
        if self.normalise_target:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        error = (predicted - target).square().mean(-1)
        hidden = torch.ones_like(error).scatter(1, visible, 0.0)
        return {"loss": (error * hidden).sum() / hidden.sum()}

    @torch.no_grad()
    def reconstruct(self, image: Tensor, visible: Tensor) -> Tensor:
        """Images `[B, C, H, W]` whose hidden patches are painted; the visible ones are as given."""
        predicted = self.decoder(self.encoder(image, visible), visible).float()
        patches = patchify(image).float()
        if self.normalise_target:
            predicted = predicted * (patches.var(-1, keepdim=True) + 1e-6).sqrt() + patches.mean(-1, keepdim=True)
        return unpatchify(_keep_visible(patches, predicted, visible), *image.shape[2:])


def hide(image: Tensor, visible: Tensor, grey: float = 0.0) -> Tensor:
    """Images `[B, C, H, W]` with their hidden patches of one `grey`."""
    patches = patchify(image)
    return unpatchify(_keep_visible(patches, torch.full_like(patches, grey), visible), *image.shape[2:])


def random_visible(patches: int, mask_ratio: float, seed: int, epoch: int, sample: int) -> np.ndarray:
    """Ids of the patches of one crop that stay visible, rising, int64 `[K]`, K = patches - round(patches * mask_ratio).

    A function of (seed, epoch, sample) alone. At least one patch is hidden and one visible.
    """
    kept = min(max(patches - round(patches * mask_ratio), 1), patches - 1)
    return np.sort(generator(seed, epoch, sample, MASK).permutation(patches)[:kept])


def _keep_visible(patches: Tensor, others: Tensor, visible: Tensor) -> Tensor:
    """`patches` where they are visible, `others` elsewhere, both `[B, P, D]`."""
    rows = visible[:, :, None].expand(-1, -1, patches.shape[-1])
    return others.scatter(1, rows, patches.gather(1, rows))
