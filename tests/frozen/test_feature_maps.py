import numpy as np
import pytest
import timm
import torch

from sempre.errors import InputError
from sempre.frozen.insides import channel_figures, drawn_channels, stage_activations


@pytest.mark.parametrize("conv_mlp", [True, False])
def test_activations_are_what_the_last_blocks_second_layer_is_given(conv_mlp):
    torch.manual_seed(0)
    network = timm.create_model(
        "convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 2, 1, 1), dims=(8, 12, 16, 24), conv_mlp=conv_mlp
    ).eval()
    images = torch.randn(2, 1, 64, 96)
    maps = stage_activations(network, images)
    assert [tuple(of_stage.shape[1:]) for of_stage in maps] == [(32, 16, 24), (48, 8, 12), (64, 4, 6), (96, 2, 3)]
    # From the maps on, the last block of the last stage is a matrix product and a sum.
    block = network.stages[-1].blocks[-1]
    entered = []
    hook = block.register_forward_hook(lambda _, inputs, output: entered.append((inputs[0], output)))
    with torch.no_grad():
        network.forward_features(images)
    hook.remove()
    (shortcut, output), weight = entered[0], block.mlp.fc2.weight.reshape(24, 96)
    with torch.inference_mode():
        expected = torch.einsum("oc,bchw->bohw", weight, maps[-1]) + block.mlp.fc2.bias[:, None, None] + shortcut
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)
    assert not any(layer.mlp.grn._forward_hooks for stage in network.stages for layer in stage.blocks)


@pytest.mark.parametrize("name", ["convnext_atto", "resnet10t"])
def test_networks_without_response_normalisation_are_refused(name):
    with pytest.raises(InputError, match="choose a ConvNeXtV2"):
        stage_activations(timm.create_model(name, in_chans=1, num_classes=0), torch.zeros(1, 1, 64, 64))


def test_figures_count_dead_saturated_and_equal_channels():
    torch.manual_seed(0)
    maps = torch.randn(1, 1, 6, 6).expand(1, 8, 6, 6).clone()
    maps[:, 0] = 0
    maps[:, 1] += 50
    figures = channel_figures(maps)
    assert (figures.channels, figures.dead, figures.saturated) == (8, 1, 1)
    assert channel_figures(maps[:, 2:]).mean_cosine_distance == pytest.approx(0, abs=1e-6)


def test_the_same_channels_are_drawn_of_networks_of_one_width():
    assert np.array_equal(drawn_channels(160, 16, 3), drawn_channels(160, 16, 3))
    assert not np.array_equal(drawn_channels(160, 16, 3), drawn_channels(160, 16, 4))
    assert len(set(drawn_channels(160, 16, 3))) == 16 and len(drawn_channels(10, 16, 3)) == 10
