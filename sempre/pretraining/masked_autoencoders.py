"""The objectives of FCMAE and SparK: hide patches of a micrograph and paint them from the visible ones.

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", CVPR 2023.

Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from sempre.data.crops import normalise_batch
from sempre.data.samplers import MASK, generator
from sempre.models.encoders import TimmEncoder
from sempre.models.masked_convolutions import MaskedEncoder
from sempre.models.masked_decoders import FCMAEDecoder, SparKDecoder, patchify, unpatchify
from sempre.models.masked_unet import MaskedUNetEncoder
from sempre.models.packed import PATCH, PackedEncoder
from sempre.models.timm_networks import use_float32_grn
from sempre.models.unet_encoder import UNetEncoder


def random_visible(patches: int, mask_ratio: float, seed: int, epoch: int, sample: int) -> np.ndarray:
    """Ids of the patches of one crop that stay visible, rising, int64 `[K]`, K = patches - round(patches * mask_ratio).

    A function of (seed, epoch, sample) alone. At least one patch is hidden and one visible.
    """
    kept = min(max(patches - round(patches * mask_ratio), 1), patches - 1)
    return np.sort(generator(seed, epoch, sample, MASK).permutation(patches)[:kept])


def mask_and_collate(samples: list[dict], crop: int, mask_ratio: float, seed: int) -> dict[str, Tensor]:
    """A batch of `image` (uint8 `[B, 1, crop, crop]`) and `visible [B, K]`; masks depend on (seed, epoch, sample)."""
    patches = (crop // PATCH) ** 2
    visible = [random_visible(patches, mask_ratio, seed, sample["epoch"], sample["sample"]) for sample in samples]
    return {
        "image": default_collate([sample["image"] for sample in samples]),
        "visible": torch.from_numpy(np.stack(visible)),
    }


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder; `forward(image [B, C, H, W], visible [B, K])` gives `{"loss"}`.

    Images are uint8 as stored, or already normalised.

    The loss is the mean squared error over the pixels of the hidden patches, in float32. With `normalise_target` each
    patch is painted in units of its own mean and deviation (He et al., "Masked Autoencoders", CVPR 2022).

    Args:
        encoder: gives features of images and `visible`; its `network` is what is pretrained.
        decoder: gives predicted patches `[B, P, D]`, in the order of `patchify`, of these features and `visible`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, normalise_target: bool):
        super().__init__()
        self.encoder, self.decoder, self.normalise_target = encoder, decoder, normalise_target

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


def _keep_visible(patches: Tensor, others: Tensor, visible: Tensor) -> Tensor:
    """`patches` where they are visible, `others` elsewhere, both `[B, P, D]`."""
    rows = visible[:, :, None].expand(-1, -1, patches.shape[-1])
    return others.scatter(1, rows, patches.gather(1, rows))


class FCMAE(MaskedAutoencoder):
    """A masked autoencoder whose encoder is a timm ConvNeXtV2, `network`.

    `grn_scope` "batch" takes GRN's norm over the batch, as the original sparse code does, to continue from its weights.

    Raises:
        InputError: as `PackedEncoder` does.
    """

    def __init__(
        self,
        network: nn.Module,
        decoder_width: int = 512,
        normalise_target: bool = True,
        grn_scope: str = "image",
        encoder: type[PackedEncoder] = PackedEncoder,
    ):
        packed = encoder(use_float32_grn(network, grn_scope))
        packed.network.head.requires_grad_(False)  # takes no part in pretraining, but belongs to timm's network
        stem = packed.network.stem[0]
        assert isinstance(stem, nn.Conv2d)
        decoder = FCMAEDecoder(packed.network.feature_info[-1]["num_chs"], decoder_width, stem.in_channels)
        super().__init__(packed, use_float32_grn(decoder, grn_scope), normalise_target)


class SparK(MaskedAutoencoder):
    """A masked autoencoder whose encoder is the U-Net's, or a convolutional network of timm's (`maskable_encoder`)."""

    def __init__(self, network: UNetEncoder | TimmEncoder, decoder_width: int = 256, normalise_target: bool = True):
        encoder = MaskedUNetEncoder(network) if isinstance(network, UNetEncoder) else MaskedEncoder(network)
        super().__init__(encoder, SparKDecoder(network.widths, decoder_width), normalise_target)
