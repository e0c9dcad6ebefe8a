import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from sempre.metrics import dice
from sempre.models.unet import UNet, UNetLoss, bce_dice, mask_losses
from sempre.synthetic import render_field


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 23), st.integers(1, 23))
def test_every_px_of_any_size_has_a_logit(channels, height, width):
    assert UNet(channels, width=2).eval()(torch.zeros(1, channels, height, width)).shape == (1, 1, height, width)


def test_it_has_two_levels_down_and_two_up_of_two_convolutions_each():
    convolutions = [module for module in UNet(2, width=4).modules() if isinstance(module, nn.Conv2d)]
    widths = [(layer.in_channels, layer.out_channels) for layer in convolutions if layer.kernel_size == (3, 3)]
    down = [(2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    up = [(16, 8), (8, 8), (8, 4), (4, 4)]
    assert widths == down + up


@pytest.mark.parametrize("levels", [1, 4, 6])
def test_it_has_as_many_levels_as_it_is_told(levels):
    network = UNet(3, width=2, levels=levels).eval()
    assert network(torch.zeros(1, 3, 70, 41)).shape == (1, 1, 70, 41)
    transposed = [module for module in network.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in transposed] == [2 << level for level in reversed(range(levels))]
    assert len(network.down) == len(network.up) == levels


def test_a_logit_depends_on_what_lies_near_it_alone():
    network = UNet(1, width=4).eval()
    image = torch.randn(1, 1, 64, 64)
    other = image.clone()
    other[..., 60:, 60:] += 1
    differs = (network(image) != network(other))[0, 0]
    assert differs[60:, 60:].any()
    assert not differs[:32, :32].any()


@settings(deadline=None)
@given(arrays(np.float32, (2, 3, 4), elements=st.floats(-20, 20, width=32)), arrays(bool, (2, 3, 4)))
def test_the_loss_is_that_of_its_formula(logits, masks):
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    right = np.where(masks, probabilities, 1 - probabilities)
    cross_entropy = -np.log(right).mean()
    shared = (probabilities * masks).sum((1, 2))
    soft = (2 * shared + 1) / (probabilities.sum((1, 2)) + masks.sum((1, 2)) + 1)
    losses = bce_dice(torch.from_numpy(logits)[:, None], torch.from_numpy(masks)[:, None])
    assert losses["cross_entropy"].item() == pytest.approx(cross_entropy, rel=1e-4, abs=1e-5)
    assert losses["dice_loss"].item() == pytest.approx((1 - soft).mean(), abs=1e-5)
    assert losses["loss"].item() == pytest.approx((cross_entropy + (1 - soft).mean()) / 2, rel=1e-4, abs=1e-5)


def test_losses_of_the_px_alone():
    logits, masks = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    probabilities = 1 / (1 + np.exp(-np.array([2.0, -1.0])))
    found = {name: mask_losses(logits, masks, name)["loss"].item() for name in ("cross_entropy", "l1", "bce_dice")}
    assert found["cross_entropy"] == pytest.approx(-np.log(probabilities).mean(), rel=1e-5)
    assert found["l1"] == pytest.approx((1 - probabilities).mean(), rel=1e-5)
    assert found["bce_dice"] == bce_dice(logits, masks)["loss"].item()


def test_nothing_predicted_where_nothing_is_costs_nothing():
    losses = bce_dice(torch.full((1, 1, 8, 8), -50.0), torch.zeros(1, 1, 8, 8))
    assert losses["loss"].item() == pytest.approx(0.0, abs=1e-6)
    assert bce_dice(torch.full((1, 1, 8, 8), 50.0), torch.zeros(1, 1, 8, 8))["dice_loss"].item() > 0.9


def test_one_field_is_learnt_by_heart():
    field = render_field(0, (96, 96))
    pixels = field.pixels.astype(np.float32)
    image = torch.from_numpy(pixels / pixels.max())[None, None]
    true = field.labels > 0
    mask = torch.from_numpy(true)[None, None].float()
    torch.manual_seed(0)
    network = UNet(1, width=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        bce_dice(network(image), mask)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        assert dice(true, network.eval()(image)[0, 0].numpy() > 0) > 0.9


def test_a_training_learns_by_the_loss_that_was_chosen():
    torch.manual_seed(0)
    network, images, masks = UNet(1, width=2).eval(), torch.randn(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    for name in ("bce_dice", "l1"):
        found = UNetLoss(network, name)(image=images, mask=masks)
        expected = mask_losses(network(images), masks, name)
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found["loss"], expected["loss"])
