"""A network for colours takes one channel and gives what it gave."""

import pytest
import timm
import torch

from sempre.images.normalise import MEAN, STD
from sempre.models.weight_files import to_one_channel

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "convnextv2_atto"])
def test_the_features_stay_and_the_weights_load_into_timm(architecture):
    torch.manual_seed(0)
    sizes = {"img_size": 64} if architecture.startswith("vit") else {}
    network = timm.create_model(architecture, num_classes=0, **sizes).eval()
    grey = torch.rand(2, 1, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = network.forward_features((grey.expand(-1, 3, -1, -1) - mean) / std)
        ours = to_one_channel(network, IMAGENET_MEAN, IMAGENET_STD)
        torch.testing.assert_close(ours.forward_features((grey - MEAN) / STD), expected, atol=1e-4, rtol=1e-4)
    fresh = timm.create_model(architecture, in_chans=1, num_classes=0, **sizes)
    fresh.load_state_dict(ours.state_dict())
