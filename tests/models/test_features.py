import timm
import torch

from sempre.models.encoders import feature_map
from sempre.models.unet_encoder import UNetEncoder


def test_a_convnext_gives_its_last_map():
    network = timm.create_model("convnextv2_atto", in_chans=1, num_classes=0).eval()
    images = torch.randn(2, 1, 64, 96)
    torch.testing.assert_close(feature_map(network, images), network.forward_features(images))


def test_a_unet_gives_its_last_map():
    network = UNetEncoder("unet_small").eval()
    images = torch.randn(2, 1, 64, 96)
    features = feature_map(network, images)
    assert features.shape == (2, 160, 2, 3)
    torch.testing.assert_close(features, network(images)[-1])


def test_tokens_lie_as_in_the_image_without_class_and_register_tokens():
    network = timm.create_model(
        "vit_tiny_patch16_224", in_chans=1, num_classes=0, img_size=64, dynamic_img_size=True, reg_tokens=4
    ).eval()
    images = torch.randn(2, 1, 64, 96)
    features = feature_map(network, images)
    assert features.shape == (2, 192, 4, 6)
    tokens = network.forward_features(images)
    torch.testing.assert_close(features[1, :, 2, 3], tokens[1, 5 + 2 * 6 + 3])


def test_a_network_of_tokens_alone_has_its_tokens_as_a_map():
    network = timm.create_model("mixer_s32_224", num_classes=0).eval()
    images = torch.randn(1, 3, 224, 224)
    expected = network.forward_features(images).transpose(1, 2).unflatten(2, (7, 7))
    torch.testing.assert_close(feature_map(network, images), expected)
