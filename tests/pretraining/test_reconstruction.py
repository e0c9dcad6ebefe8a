import numpy as np
import pytest
import timm
import torch

from sempre.images.normalise import MEAN, STD
from sempre.pretraining.reconstruction import Reconstruction, ReconstructionDecoder


def small_network(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "vit":
        sizes = {"img_size": 32, "dynamic_img_size": True, "depth": 4, "embed_dim": 24, "num_heads": 3}
        return timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=0, **sizes)
    sizes = {"depths": (1, 1, 2, 3), "dims": (8, 8, 16, 24)}
    return timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, **sizes)


@pytest.mark.parametrize(("kind", "learn"), [("vit", "blocks.{}."), ("convnext", "stages.3.blocks.{}.")])
def test_only_the_last_two_blocks_and_the_decoder_change(kind, learn):
    network = small_network(kind)
    model = Reconstruction(network, width=32)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 1, 64, 64))["loss"].backward()
        optimizer.step()
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    blocks = len(network.blocks) if kind == "vit" else len(network.stages[-1].blocks)
    prefixes = tuple(f"network.{learn.format(number)}" for number in range(blocks)[-2:])
    assert changed == {name for name in before if name.startswith((*prefixes, "decoder."))}


def test_the_loss_is_the_mean_absolute_difference_of_normalised_grey_values():
    model = Reconstruction(small_network("vit"), width=32).eval()
    image = torch.randint(0, 256, (2, 1, 48, 32), dtype=torch.uint8)
    normalised = (image.float() / 255 - MEAN) / STD
    with torch.no_grad():
        reconstructed = model.reconstruct(normalised).numpy()
        assert reconstructed.shape == image.shape
        loss = model(image)["loss"].item()
    assert loss == pytest.approx(np.abs(reconstructed - normalised.numpy()).mean(), rel=1e-5)


@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
@pytest.mark.parametrize(("cells", "size"), [((2, 3), (64, 96)), ((4, 4), (32, 32)), ((5, 5), (70, 70))])
def test_what_is_left_of_the_stride_is_a_resize(cells, size, upsampling):
    assert ReconstructionDecoder(8, 32, upsampling)(torch.zeros(1, 8, *cells), size).shape == (1, 1, *size)


def test_transposed_blocks_are_a_stride_of_two_a_change_of_basis_a_norm_and_an_activation():
    names = [type(layer).__name__ for layer in ReconstructionDecoder(8, 32, "transposed").blocks]
    assert names == ["ConvTranspose2d", "Conv2d", "BatchNorm2d", "ReLU"] * 3
    kernels = {layer.kernel_size for layer in ReconstructionDecoder(8, 32, "transposed").blocks[1::4]}
    assert kernels == {(1, 1)}


@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
def test_the_loss_falls(upsampling):
    torch.manual_seed(1)
    model = Reconstruction(small_network("vit"), width=64, upsampling=upsampling)
    blurred = torch.nn.functional.interpolate(torch.randn(2, 1, 6, 6), 48, mode="bicubic")
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(blurred)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
