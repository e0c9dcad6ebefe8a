"""3x3 convolution with 2.25 multiplications a pixel instead of 9, as matrix products that any runtime has.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: the minimal filtering algorithm
F(4x4, 3x3). ONNX Runtime has direct convolutions only, and its matrix product is as quick as they are.
"""

import torch
from torch import Tensor, nn

INPUT_TRANSFORM = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
FILTER_TRANSFORM = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
OUTPUT_TRANSFORM = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]


class WinogradConvolution(nn.Module):
    """The same function as a 3x3 `nn.Conv2d` of stride 1 and padding 1, for inference, without its bias.

    `forward(x [H, W, N, C]) -> [H, W, N, C_out]`. Channels come last, and images before them, so that a row of
    tiles, over all images, is one matrix of a size that stays in the cache. Agrees with the convolution to about 1e-5
    of the largest output in float32.
    """

    filters: Tensor
    input_transform: Tensor
    output_transform: Tensor

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        ones = convolution.stride, convolution.padding, convolution.dilation
        if convolution.kernel_size != (3, 3) or ones != ((1, 1),) * 3 or convolution.groups != 1:
            raise ValueError(f"{convolution} is not a dense 3x3 convolution of stride 1 and padding 1")
        filters = convolution.weight.detach().double()
        input_rows = torch.tensor(INPUT_TRANSFORM, dtype=torch.float64)
        filter_rows = torch.tensor(FILTER_TRANSFORM, dtype=torch.float64)
        output_rows = torch.tensor(OUTPUT_TRANSFORM, dtype=torch.float64)
        transformed = torch.einsum("ai,ocij,bj->abco", filter_rows, filters, filter_rows)
        self.register_buffer("filters", transformed.flatten(0, 1).float().contiguous())
        self.register_buffer("input_transform", torch.kron(input_rows, input_rows).float())
        self.register_buffer("output_transform", torch.kron(output_rows, output_rows).float())

    def forward(self, x: Tensor) -> Tensor:
        height, width, images, channels = x.shape
        tile_rows, tile_columns = (height + 3) // 4, (width + 3) // 4
        pixels = x.reshape(height * width, images * channels)
        pixels = torch.cat([pixels, torch.zeros_like(pixels[:1])])  # the last row is what lies outside the image
        y, y_inside = _window_positions(tile_rows, height)
        x, x_inside = _window_positions(tile_columns, width)
        index = y[:, :, None, None] * width + x.T[None, None]  # [tile row, 6, 6, tile column]
        index = torch.where(y_inside[:, :, None, None] & x_inside.T[None, None], index, height * width)
        windows = pixels.index_select(0, index.reshape(-1))

        windows = torch.matmul(self.input_transform, windows.reshape(tile_rows, 36, -1))
        products = torch.matmul(windows.reshape(tile_rows, 36, -1, channels), self.filters)
        outputs = torch.matmul(self.output_transform, products.reshape(tile_rows, 36, -1))
        outputs = outputs.reshape(tile_rows, 4, 4, tile_columns, -1).transpose(2, 3)
        outputs = outputs.reshape(tile_rows * 4, tile_columns * 4, images, self.filters.shape[-1])
        return outputs[:height, :width]


def _window_positions(tiles: int, length: int) -> tuple[Tensor, Tensor]:
    """Pixel `[tiles, 6]` under each of a window's six places along one axis, and whether it is inside the image."""
    positions = torch.arange(tiles)[:, None] * 4 + torch.arange(-1, 5)
    return positions, (positions >= 0) & (positions < length)
