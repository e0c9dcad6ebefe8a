import pytest
import timm
import torch

from sempre.errors import InputError
from sempre.models.encoders import arguments_for, cell_size, check_view_size, feature_map


@pytest.mark.parametrize("architecture", ["convnextv2_atto", "vit_tiny_patch16_224", "vit_small_patch8_224"])
def test_a_cell_of_the_feature_map_stands_for_that_many_pixels(architecture):
    cell = cell_size(architecture)
    arguments = arguments_for(architecture, 4 * cell)
    network = timm.create_model(architecture, in_chans=1, num_classes=0, **arguments)
    with torch.no_grad():
        assert feature_map(network, torch.zeros(1, 1, 4 * cell, 4 * cell)).shape[2:] == (4, 4)
        assert feature_map(network, torch.zeros(1, 1, 2 * cell, 3 * cell)).shape[2:] == (2, 3)


@pytest.mark.parametrize("architecture", ["resnet18", "no_such_network"])
def test_other_networks_are_refused(architecture):
    with pytest.raises(InputError, match=f"architecture={architecture} is neither"):
        cell_size(architecture)


@pytest.mark.parametrize("size", [0, 13, 96])
def test_a_view_is_a_whole_number_of_cells(size):
    with pytest.raises(InputError, match=r"local_size=.* is no multiple of 14 px, .* take (14|98)"):
        check_view_size("local_size", size, "vit_small_patch14_dinov2")
    check_view_size("local_size", 98, "vit_small_patch14_dinov2")
