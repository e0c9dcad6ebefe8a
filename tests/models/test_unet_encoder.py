import pytest
import torch
from torch import nn

from sempre.errors import InputError
from sempre.models.unet_encoder import STRIDES, WIDTHS, ResidualBlock, UNetEncoder


@pytest.mark.parametrize("architecture", WIDTHS)
def test_maps_are_at_every_stride(architecture):
    maps = UNetEncoder(architecture).eval()(torch.zeros(2, 1, 64, 96))
    for part, stride, width in zip(maps, STRIDES, WIDTHS[architecture], strict=True):
        assert part.shape == (2, width, 64 // stride, 96 // stride)


def test_a_block_whose_convolutions_give_nothing_is_its_shortcut():
    block = ResidualBlock(4, 4).eval()
    nn.init.zeros_(block.second[0].weight)
    x = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_no_pixel_is_left_out_by_a_stride():
    block = ResidualBlock(1, 2, stride=2).eval()
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    block.shortcut(x).square().sum().backward()
    assert (x.grad != 0).all()


def test_an_unknown_architecture_is_named():
    with pytest.raises(InputError, match="unet_huge"):
        UNetEncoder("unet_huge")
