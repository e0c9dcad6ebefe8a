import pytest
import torch
from torch import nn
from torch.nn import functional

from sempre.export.channels_last import WinogradConvolution


@pytest.mark.parametrize(("height", "width", "images"), [(16, 24, 1), (1, 1, 1), (5, 7, 3), (14, 14, 4), (6, 33, 2)])
def test_is_the_convolution(height, width, images):
    torch.manual_seed(0)
    convolution = nn.Conv2d(24, 40, 3, padding=1)
    x = torch.randn(images, 24, height, width)
    expected = functional.conv2d(x.double(), convolution.weight.double(), padding=1)
    with torch.inference_mode():
        found = WinogradConvolution(convolution)(x.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_an_impulse_gives_the_filter():
    convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    image = torch.zeros(9, 9, 1, 1)
    image[4, 3] = 1
    with torch.inference_mode():
        response = WinogradConvolution(convolution)(image)[..., 0, 0]
    expected = torch.zeros(9, 9)
    expected[3:6, 2:5] = convolution.weight.detach()[0, 0].flip(0, 1)
    torch.testing.assert_close(response, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("changed", [{"stride": 2}, {"padding": 0}, {"kernel_size": 1}, {"groups": 2}, {"dilation": 2}])
def test_refuses_other_convolutions(changed):
    with pytest.raises(ValueError, match="not a dense 3x3 convolution"):
        WinogradConvolution(nn.Conv2d(4, 4, **{"kernel_size": 3, "padding": 1, **changed}))
