"""A masked network of timm's sees nothing of hidden patches, and equals the packed U-Net, and itself unmasked."""

import copy

import pytest
import timm
import torch
from torch import nn

from sempre.errors import InputError
from sempre.models.masked_convolutions import MaskedEncoder, maskable_encoder
from sempre.models.masked_unet import MaskedUNetEncoder
from tests.models.test_masked_unet import assert_same, small_encoder
from tests.models.test_packed import random_input

# A small one of each kind: TensorFlow's padding, max pooling, squeeze-and-excitation, layer normalisation and linear
# layers with biases.
FAMILIES = "tf_efficientnet_lite0", "resnet10t", "regnety_002", "mobilenetv3_small_050", "convnext_atto"


@pytest.mark.parametrize("training", [True, False])
def test_it_equals_the_packed_u_net(training):
    network = small_encoder().double().train(training)
    other = copy.deepcopy(network)
    images, visible = random_input(2, 3, 2, 3, seed=1)
    images = images.double()
    masked, packed = MaskedEncoder(network), MaskedUNetEncoder(other)
    assert_same(network, lambda: masked(images, visible), other, lambda: packed(images, visible))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_no_pixel_of_a_hidden_patch_is_seen(architecture):
    torch.manual_seed(0)
    masked = MaskedEncoder(maskable_encoder(architecture)).train()
    images, visible = random_input(2, 4, 3, 5, seed=2)
    shown = torch.zeros(2, 12).scatter(1, visible, 1.0).view(2, 1, 4, 3)
    hidden = 1 - shown.repeat_interleave(32, 2).repeat_interleave(32, 3)
    others = images + hidden * torch.randn_like(images)
    for one, other in zip(masked(images, visible), masked(others, visible), strict=True):
        torch.testing.assert_close(one, other)
        cells = one.shape[3] // 3
        assert not (one * (1 - shown.repeat_interleave(cells, 2).repeat_interleave(cells, 3))).any()
        assert one.any()


@pytest.mark.parametrize("architecture", FAMILIES)
def test_with_all_patches_visible_it_is_the_network(architecture):
    torch.manual_seed(0)
    network = maskable_encoder(architecture).eval()
    images = torch.randn(2, 1, 64, 96)
    everything = torch.arange(6).expand(2, 6)
    for one, other in zip(MaskedEncoder(network)(images, everything), network(images), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_batch_statistics_are_those_of_visible_cells():
    """A constant picture of which half is hidden has the statistics of the whole one in the first layer."""
    torch.manual_seed(0)
    network = maskable_encoder("tf_efficientnet_lite0")
    norm = network.body.get_submodule("bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    half, whole = torch.tensor([[0, 1, 2, 3]]), torch.arange(16)[None]
    images = torch.randn(1, 1, 128, 128)
    images[:, :, 32:] = images[:, :, :32].repeat(1, 1, 3, 1)  # four equal rows of patches
    means = []
    for visible in (half, whole):
        norm.reset_running_stats()
        MaskedEncoder(network).train()(images, visible)
        means.append(norm.running_var.clone())
    # Alike but for the cells along the edges between patches; with zeros counted it would be a quarter.
    torch.testing.assert_close(means[0], means[1], rtol=0.1, atol=1e-3)


def test_gradients_reach_what_the_maps_depend_on_alone():
    network = maskable_encoder("tf_efficientnet_lite0")
    images, visible = random_input(2, 2, 2, 2, seed=0)
    sum(part.square().mean() for part in MaskedEncoder(network)(images, visible)).backward()
    without = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not without


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnextv2_atto"])
def test_networks_that_mix_all_cells_are_refused(architecture):
    with pytest.raises(InputError, match=architecture):
        maskable_encoder(architecture)


def test_a_network_that_timm_does_not_have_is_refused():
    assert not timm.is_model("resnet_18")
    with pytest.raises(InputError, match="resnet_18"):
        maskable_encoder("resnet_18")
