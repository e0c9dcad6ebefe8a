import torch

from sempre.models.masked_decoders import SparKDecoder
from sempre.models.packed import PATCH

WIDTHS = (4, 6, 8, 10, 12)
VISIBLE = torch.tensor([[0, 4], [2, 3]])  # of 2x3 patches


def maps() -> list[torch.Tensor]:
    return [
        torch.randn(2, width, 2 * PATCH // stride, 3 * PATCH // stride)
        for width, stride in zip(WIDTHS, (2, 4, 8, 16, 32), strict=True)
    ]


def test_it_predicts_every_patch_with_all_its_pixels():
    torch.manual_seed(0)
    assert SparKDecoder(WIDTHS, 16, channels=2)(maps(), VISIBLE).shape == (2, 6, PATCH * PATCH * 2)


def test_every_scale_matters_where_it_is_visible_and_nowhere_else():
    torch.manual_seed(0)
    decoder, scales = SparKDecoder(WIDTHS, 32).eval(), maps()
    predicted = decoder(scales, VISIBLE)
    shown = torch.zeros(2, 6).scatter(1, VISIBLE, 1.0).view(2, 1, 2, 3)
    for number, features in enumerate(scales):
        cells = features.shape[-1] // 3
        here = shown.repeat_interleave(cells, 2).repeat_interleave(cells, 3)
        for part, same in ((1 - here, True), (here, False)):
            others = [*scales]
            others[number] = features + part * torch.randn_like(features)
            assert torch.equal(decoder(others, VISIBLE), predicted) == same


def test_the_embedding_of_every_scale_is_learned():
    torch.manual_seed(0)
    decoder = SparKDecoder(WIDTHS, 32)
    decoder(maps(), VISIBLE).square().mean().backward()
    assert len(decoder.mask_embeddings) == len(WIDTHS)
    assert all(embedding.grad.abs().sum() > 0 for embedding in decoder.mask_embeddings)
