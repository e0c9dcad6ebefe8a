"""The masked U-Net encoder is the masked dense network: outputs, gradients, statistics; and blind to what is hidden.

`reference` is Tian et al.'s definition in plain layers: every cell is computed, and hidden ones are set to zero after
each layer; batch statistics are numpy's, over the visible cells.
"""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sempre.errors import InputError
from sempre.models.masked_unet import MaskedUNetEncoder
from sempre.models.packed import PATCH
from sempre.models.unet_encoder import ResidualBlock, UNetEncoder
from tests.models.test_packed import random_input

TRAINED = pytest.mark.parametrize("training", [True, False])


def small_encoder(seed: int = 0) -> UNetEncoder:
    """An encoder whose normalisation layers are not those that training starts with, which hide errors."""
    torch.manual_seed(seed)
    network = UNetEncoder("unet_small")
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network


def shown_at(visible: Tensor, grid: tuple[int, int], cells: int) -> Tensor:
    """The mask `[B, 1, H', W']` of a map with `cells` cells along a patch's side."""
    mask = torch.zeros(len(visible), grid[0] * grid[1]).scatter(1, visible, 1.0).view(-1, 1, *grid)
    return mask.repeat_interleave(cells, 2).repeat_interleave(cells, 3)


def reference(network: UNetEncoder, images: Tensor, visible: Tensor) -> list[Tensor]:
    grid = images.shape[2] // PATCH, images.shape[3] // PATCH

    def shown(x: Tensor) -> Tensor:
        return shown_at(visible, grid, x.shape[3] // grid[1])

    def run(layers: nn.Sequential, x: Tensor) -> Tensor:
        for layer in layers:
            x = masked_norm(layer, x, shown(x)) if isinstance(layer, nn.BatchNorm2d) else layer(x)
            x = x * shown(x)
        return x

    x, maps = images * shown(images), []
    for level in network.levels:
        for part in level:
            if isinstance(part, ResidualBlock):
                shortcut = run(part.shortcut, x) if isinstance(part.shortcut, nn.Sequential) else x
                x = functional.relu(run(part.second, run(part.first, x)) + shortcut)
            else:
                x = run(part, x)
        maps.append(x)
    return maps


def masked_norm(layer: nn.BatchNorm2d, x: Tensor, shown: Tensor) -> Tensor:
    mean, variance = layer.running_mean, layer.running_var
    if layer.training:
        count = shown.sum()
        mean = (x * shown).sum((0, 2, 3)) / count
        variance = ((x - mean.view(1, -1, 1, 1)).square() * shown).sum((0, 2, 3)) / count
        values = x.detach().permute(0, 2, 3, 1)[shown[:, 0] > 0].numpy()  # [visible cells, C]
        layer.running_mean.lerp_(torch.from_numpy(values.mean(0)), layer.momentum)
        layer.running_var.lerp_(torch.from_numpy(values.var(0, ddof=1)), layer.momentum)
    scale = layer.weight / (variance + layer.eps).sqrt()
    return x * scale.view(1, -1, 1, 1) + (layer.bias - mean * scale).view(1, -1, 1, 1)


def maps_and_gradients(network: UNetEncoder, run) -> tuple[list[Tensor], dict]:
    network.zero_grad()
    maps = run()
    sum((part * torch.linspace(-1, 1, part.numel()).view(part.shape)).mean() for part in maps).backward()
    return [part.detach() for part in maps], {name: weight.grad.clone() for name, weight in network.named_parameters()}


def assert_same(one: UNetEncoder, run_one, other: UNetEncoder, run_other) -> None:
    """That two networks, in float64, give the same maps, gradients, and running statistics afterwards."""
    maps, gradients = maps_and_gradients(one, run_one)
    other_maps, other_gradients = maps_and_gradients(other, run_other)
    for part, other_part in zip(maps, other_maps, strict=True):
        torch.testing.assert_close(part, other_part, atol=1e-8, rtol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, other_gradients[name], atol=1e-8, rtol=1e-6, msg=name)
    for name, buffer in one.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, other.get_buffer(name), atol=1e-8, rtol=1e-6, msg=name)


@TRAINED
@settings(max_examples=8, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    share=st.floats(0.05, 1.0),
    batch=st.integers(2, 3),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_masked_dense_network(training, size, share, batch, seed):
    network = small_encoder(seed).double().train(training)
    other = copy.deepcopy(network)
    images, visible = random_input(batch, *size, max(1, round(share * size[0] * size[1])), seed)
    images = images.double()
    masked = MaskedUNetEncoder(network)
    assert_same(network, lambda: masked(images, visible), other, lambda: reference(other, images, visible))


@TRAINED
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_with_all_patches_visible_it_is_the_network_itself(training, layout):
    network = small_encoder().double().train(training).to(memory_format=layout)
    other = copy.deepcopy(network)
    images = random_input(2, 2, 3, 1, seed=1)[0].double()
    everything = torch.arange(6).repeat(2, 1)
    masked = MaskedUNetEncoder(network)
    assert_same(network, lambda: masked(images, everything), other, lambda: other(images))


@TRAINED
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), visible=st.integers(1, 11))
def test_hidden_pixels_change_nothing(training, seed, visible):
    masked = MaskedUNetEncoder(small_encoder(seed)).train(training)
    images, shown = random_input(2, 3, 4, visible, seed)
    changed = torch.where(shown_at(shown, (3, 4), PATCH) > 0, images, torch.nan)
    for part, other in zip(masked(images, shown), masked(changed, shown), strict=True):
        assert torch.equal(part, other)
        assert not part[(shown_at(shown, (3, 4), part.shape[3] // 4) == 0).expand_as(part)].any()


def test_statistics_are_those_of_the_visible_cells():
    network = small_encoder().train()
    normalisation = network.levels[0][0][1]
    normalisation.momentum = 1.0  # the running statistics become the batch's
    images, visible = random_input(3, 2, 3, 2, seed=4)
    MaskedUNetEncoder(network)(images, visible)
    cells = network.levels[0][0][0](images * shown_at(visible, (2, 3), PATCH)).detach().permute(0, 2, 3, 1)
    seen = cells[shown_at(visible, (2, 3), PATCH // 2)[:, 0] > 0].double().numpy()
    assert len(seen) == 3 * 2 * 16 * 16
    np.testing.assert_allclose(normalisation.running_mean, seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(normalisation.running_var, seen.var(0, ddof=1), rtol=1e-4)


def test_parameters_are_shared_not_copied():
    network = small_encoder()
    masked = MaskedUNetEncoder(network)
    assert {id(weight) for weight in masked.state_dict(keep_vars=True).values()} == {
        id(weight) for weight in network.state_dict(keep_vars=True).values()
    }


def test_under_bf16_it_stays_near_float32():
    masked = MaskedUNetEncoder(small_encoder().to(memory_format=torch.channels_last)).train()
    images, visible = random_input(4, 2, 3, 3, seed=2)
    exact = masked(images, visible)
    with torch.autocast("cpu", torch.bfloat16):
        rough = masked(images, visible)
    for part, other in zip(exact, rough, strict=True):
        assert (part - other.float()).square().mean() < 1e-2 * part.square().mean()


def test_images_without_a_whole_number_of_patches_are_refused():
    with pytest.raises(InputError, match="32 px"):
        MaskedUNetEncoder(small_encoder())(torch.zeros(1, 1, 48, 64), torch.zeros(1, 1, dtype=torch.int64))
