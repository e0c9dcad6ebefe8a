"""The packed encoder is the masked dense network: outputs, gradients, and blindness to what is hidden."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.errors import InputError
from sempre.models.packed import PATCH, PackedEncoder, masked_dense_forward
from sempre.models.timm_networks import use_float32_grn


def small_network(depths: tuple, dims: tuple, conv_mlp: bool, seed: int, layer_scale: float | None = None):
    torch.manual_seed(seed)
    network = timm.create_model(
        "convnextv2_atto",
        in_chans=1,
        num_classes=0,
        depths=depths,
        dims=dims,
        conv_mlp=conv_mlp,
        ls_init_value=layer_scale,
    )
    # timm initialises GRN and the biases with zeros, which would hide errors in them.
    for name, parameter in network.named_parameters():
        if "grn" in name or "bias" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def random_input(batch: int, rows: int, columns: int, visible: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 1, rows * PATCH, columns * PATCH, generator=generator)
    order = [torch.randperm(rows * columns, generator=generator)[:visible] for _ in range(batch)]
    return images, torch.stack(order)


def outputs_and_gradients(network, run) -> tuple[torch.Tensor, dict]:
    network.zero_grad()
    output = run()
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    (output * weights).mean().backward()
    return output.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@settings(max_examples=25, deadline=None)
@given(
    depths=st.tuples(*[st.integers(1, 2)] * 4),
    size=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    share=st.floats(0.05, 1.0),
    batch=st.integers(1, 3),
    conv_mlp=st.booleans(),
    layer_scale=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 1000),
)
def test_packed_equals_masked_dense(depths, size, share, batch, conv_mlp, layer_scale, seed):
    network = small_network(depths, (8, 12, 16, 24), conv_mlp, seed, layer_scale)
    images, visible = random_input(batch, *size, max(1, round(share * size[0] * size[1])), seed)
    encoder = PackedEncoder(network)
    packed, packed_gradients = outputs_and_gradients(network, lambda: encoder(images, visible))
    dense, dense_gradients = outputs_and_gradients(network, lambda: masked_dense_forward(network, images, visible))
    assert (packed - dense).abs().max() < 1e-5
    assert packed_gradients.keys() == dense_gradients.keys()
    for name, gradient in dense_gradients.items():
        assert (packed_gradients[name] - gradient).abs().max() < 1e-5, name


def test_with_all_patches_visible_it_is_timms_own_network():
    network = small_network((1, 1, 2, 1), (8, 12, 16, 24), True, 0)
    images, _ = random_input(2, 2, 3, 1, seed=1)
    everything = torch.arange(6).repeat(2, 1)
    stages = network.forward_intermediates(images, intermediates_only=True)
    torch.testing.assert_close(PackedEncoder(network)(images, everything), stages[-1], atol=1e-5, rtol=0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), visible=st.integers(1, 11))
def test_masked_pixels_change_nothing(seed, visible):
    encoder = PackedEncoder(small_network((1, 1, 1, 1), (8, 12, 16, 24), True, seed))
    images, shown = random_input(2, 3, 4, visible, seed)
    mask = torch.zeros(2, 12).scatter(1, shown, 1.0).view(2, 1, 3, 4)
    mask = mask.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    features = encoder(images, shown)
    changed = encoder(torch.where(mask > 0, images, 1e3 * torch.randn_like(images)), shown)
    assert torch.equal(features, changed)
    assert torch.equal(features.abs().sum(1) > 0, mask[:, 0, ::PATCH, ::PATCH] > 0)


def test_the_order_of_the_visible_patches_is_free():
    encoder = PackedEncoder(small_network((1, 1, 1, 1), (8, 12, 16, 24), True, 0))
    images, shown = random_input(1, 3, 3, 5, seed=3)
    torch.testing.assert_close(encoder(images, shown), encoder(images, shown.flip(1)))


def test_parameters_are_shared_not_copied():
    network = small_network((1, 1, 1, 1), (8, 12, 16, 24), True, 0)
    encoder = PackedEncoder(network)
    assert {id(p) for p in encoder.parameters()} == {id(p) for p in network.parameters()}


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(InputError, match="ConvNeXt"):
        PackedEncoder(timm.create_model("resnet18"))
    encoder = PackedEncoder(small_network((1, 1, 1, 1), (8, 12, 16, 24), True, 0))
    with pytest.raises(InputError, match="32 px"):
        encoder(torch.zeros(1, 1, 48, 64), torch.zeros(1, 1, dtype=torch.int64))


def test_grn_takes_its_norm_in_float32():
    network = use_float32_grn(small_network((1, 1, 1, 1), (8, 12, 16, 24), True, 0))
    grn = network.stages[0].blocks[0].mlp.grn
    # The sum of these squares is past float16's largest number and past bfloat16's digits.
    x = torch.full((1, 32, 64, 64), 3e2).half()
    x[:, ::2] *= 0.5
    exact = use_float32_grn(network).stages[0].blocks[0].mlp.grn(x.float())
    np.testing.assert_allclose(grn(x).detach().float().numpy(), exact.detach().numpy(), rtol=2e-3, atol=0.5)


def test_the_batch_scope_of_grn_is_the_original_sparse_codes():
    network = small_network((1, 1, 1, 1), (8, 12, 16, 24), True, 0)
    source = network.stages[0].blocks[0].mlp.grn
    x = torch.randn(3, 32, 4, 4)
    use_float32_grn(network, scope="batch")
    norm = x.permute(0, 2, 3, 1).reshape(-1, 32).norm(dim=0)
    expected = (
        x
        + source.bias.view(1, -1, 1, 1)
        + source.weight.view(1, -1, 1, 1) * x * (norm / (norm.mean() + 1e-6)).view(1, -1, 1, 1)
    )
    torch.testing.assert_close(network.stages[0].blocks[0].mlp.grn(x), expected)
