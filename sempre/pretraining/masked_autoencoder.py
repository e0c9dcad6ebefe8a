"""The objective that masked autoencoders share: paint the hidden patches of a micrograph from the visible ones."""

import torch
from torch import Tensor, nn

from sempre.data.feeding.datasets import normalise_batch
from sempre.models.masked.patches import patchify, unpatchify


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
