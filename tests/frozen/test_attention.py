import pytest
import timm
import torch

from sempre.errors import InputError
from sempre.frozen.attention import class_attention
from sempre.frozen.encoder import Encoder, open_encoder


def small_encoder(layer: int = -1, **options) -> Encoder:
    torch.manual_seed(0)
    sizes = {"img_size": 64, "dynamic_img_size": True, "depth": 3, "embed_dim": 24, "num_heads": 3}
    network = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=0, **sizes, **options).eval()
    return Encoder(network, "small", "vit_tiny_patch16_224", layer, (0.5,), (0.25,))


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 4}, {"qk_norm": True}, {"init_values": 1e-5}])
@pytest.mark.parametrize("layer", [-1, 0])
def test_it_is_what_the_block_attends_to(layer, options):
    """Without the fused kernel timm's block computes its attention, which passes through `attn_drop`."""
    encoder = small_encoder(layer, **options)
    images = torch.rand(2, 1, 40, 64)
    found = class_attention(encoder, images)
    assert found.shape == (2, 3, 3, 4), "40 px are two and a half patches"

    attention = encoder.network.blocks[layer].attn
    attention.fused_attn = False
    seen = []
    attention.attn_drop.register_forward_hook(lambda module, given, result: seen.append(result))
    with torch.no_grad():
        encoder.network.forward_features(encoder.normalise(images))
    of_class_token = seen[0][:, :, 0]  # [B, heads, tokens]
    torch.testing.assert_close(of_class_token.sum(-1), torch.ones(2, 3))
    prefix = encoder.network.num_prefix_tokens
    torch.testing.assert_close(found.flatten(2), of_class_token[:, :, prefix:], atol=1e-6, rtol=1e-4)


def test_networks_without_a_class_token():
    with pytest.raises(InputError, match="random:convnextv2_atto has no class token"):
        class_attention(open_encoder("random:convnextv2_atto"), torch.zeros(1, 1, 64, 64))
    encoder = small_encoder(class_token=False, global_pool="avg")
    with pytest.raises(InputError, match="small has no class token"):
        class_attention(encoder, torch.zeros(1, 1, 64, 64))
