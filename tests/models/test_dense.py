import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempre.errors import InputError
from sempre.models.dense import DenseOptions, DenseSegmenter, as_network, dense_losses


@pytest.mark.parametrize("architecture", ["unet_small", "unet_medium", "convnextv2_atto"])
def test_three_maps_at_half_the_resolution(architecture):
    model = DenseSegmenter(DenseOptions(architecture)).eval()
    assert model(torch.rand(2, 1, 64, 96)).shape == (2, 3, 32, 48)


def test_every_parameter_learns():
    torch.manual_seed(0)
    for architecture in ("unet_small", "convnextv2_atto"):
        model = DenseSegmenter(DenseOptions(architecture))
        maps = model(torch.rand(2, 1, 64, 64))
        true = (torch.rand(3, 2, 32, 32) > 0.5).float()
        dense_losses(maps, *true)["loss"].backward()
        idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
        assert not idle


def test_an_unknown_architecture_is_named():
    with pytest.raises(InputError, match="unet_tiny"):
        DenseSegmenter(DenseOptions("unet_tiny"))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(logits, true):
    return -(true * np.log(sigmoid(logits)) + (1 - true) * np.log(sigmoid(-logits)))


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.float32, (2, 3, 3, 4), elements=st.floats(-9, 9, width=32)),
    arrays(np.float32, (3, 2, 3, 4), elements=st.floats(0, 1, width=32)),
)
def test_losses_are_those_of_their_formulas(maps, true):
    foreground, depth, boundary = true.astype(np.float64)
    inside = sigmoid(maps[:, 0].astype(np.float64))
    shared, total = (inside * foreground).sum((1, 2)), (inside + foreground).sum((1, 2))
    expected = {
        "foreground": (cross_entropy(maps[:, 0].astype(np.float64), foreground) * (1 + 4 * boundary)).mean()
        + (1 - (2 * shared + 1) / (total + 1)).mean(),
        "depth": 2 * (np.abs(maps[:, 1] - depth) * (foreground + 0.2)).mean(),
        "boundary": 0.3 * cross_entropy(maps[:, 2].astype(np.float64), boundary).mean(),
    }
    found = dense_losses(torch.from_numpy(maps), *torch.from_numpy(true))
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert found["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-4)


def test_a_network_gives_probability_and_depth_of_a_whole_image():
    torch.manual_seed(0)
    model = DenseSegmenter(DenseOptions("unet_small"))
    image = np.random.default_rng(0).random((64, 96), dtype=np.float32)
    probability, depth = as_network(model)(image)
    maps = model.eval()(torch.from_numpy(image)[None, None])[0].detach()
    np.testing.assert_allclose(probability, maps[0].sigmoid(), atol=1e-5)
    np.testing.assert_allclose(depth, maps[1], atol=1e-5)
