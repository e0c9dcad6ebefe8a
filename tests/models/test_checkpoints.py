import json
import resource

import pytest
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD
from sempre.models.backbones import (
    BackboneDetails,
    load_backbone,
    load_backbone_weights,
    read_backbone_details,
    save_backbone,
)
from sempre.models.original_fcmae import original_state_dict, save_original_weights
from sempre.models.unet_encoder import UNetEncoder

ARCHITECTURE = "convnextv2_atto"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(ARCHITECTURE, in_chans=1, num_classes=0)


@pytest.fixture
def backbone(tmp_path, network):
    details = BackboneDetails(ARCHITECTURE, 1, "fcmae", "0" * 64, 0.5, {"epochs": 3})
    save_backbone(tmp_path / "backbone", network, details)
    return tmp_path / "backbone"


def test_a_saved_backbone_is_loaded_as_it_was(backbone, network):
    loaded, details = load_backbone(backbone)
    assert details.config == {"epochs": 3}
    assert details.normalisation == {"percentiles": [1, 99], "mean": 0.5, "std": 0.25}
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(weight, network.state_dict()[name]) for name, weight in loaded.state_dict().items())


def test_any_timm_user_can_load_it_with_one_call(backbone, network):
    file = str(backbone / "backbone.safetensors")
    theirs = timm.create_model(ARCHITECTURE, in_chans=1, num_classes=0, checkpoint_path=file)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(theirs.eval()(image), network.eval()(image))


def test_a_unet_is_loaded_as_our_own_network(tmp_path):
    encoder = UNetEncoder("unet_small")
    torch.nn.init.normal_(encoder.levels[0][0][1].running_mean)
    save_backbone(tmp_path / "backbone", encoder, BackboneDetails("unet_small", 1, "spark", "0" * 64, 0.5, {}))
    loaded, _ = load_backbone(tmp_path / "backbone")
    assert isinstance(loaded, UNetEncoder)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(loaded.eval()(image), encoder.eval()(image))


def test_another_architecture_is_named(backbone):
    other = timm.create_model("convnextv2_femto", in_chans=1, num_classes=0)
    with pytest.raises(InputError, match=r"is a convnextv2_atto, not a convnextv2_femto: set architecture="):
        load_backbone_weights(other, backbone, "convnextv2_femto")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_of_the_original_code_answers_to_our_grey_levels_as_it_was_trained(tmp_path, network, channels):
    torch.manual_seed(2)
    original = timm.create_model(ARCHITECTURE, in_chans=channels, num_classes=0).eval()
    file = tmp_path / "checkpoint-799.pth"
    torch.save({"model": original_state_dict(original), "optimizer": {}}, file)
    ours = timm.create_model(ARCHITECTURE, in_chans=1, num_classes=0).eval()
    load_backbone_weights(ours, file, ARCHITECTURE)
    levels = torch.rand(1, 1, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    theirs = levels if channels == 1 else (levels.expand(-1, 3, -1, -1) - mean) / std
    with torch.no_grad():
        torch.testing.assert_close(ours((levels - MEAN) / STD), original(theirs), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=r"is a convnextv2_atto, not a convnextv2_femto: set architecture="):
        load_backbone_weights(
            timm.create_model("convnextv2_femto", in_chans=1, num_classes=0), file, "convnextv2_femto"
        )
    # What is written here in the original layout says how its levels are normalised.
    save_original_weights(network, file)
    load_backbone_weights(ours, file, ARCHITECTURE)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight)


def test_what_is_no_backbone_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no backbone"):
        read_backbone_details(tmp_path)


def test_a_damaged_backbone_is_refused(backbone):
    weights = backbone / "backbone.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        load_backbone(backbone)
    (backbone / "backbone.json").write_text(json.dumps({"architecture": ARCHITECTURE})[:-4])
    with pytest.raises(InputError, match="damaged"):
        load_backbone(backbone)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"checkpoint_path": "another.pth"}},
        {"arguments": {"pretrained_cfg": {"url": "https://example.org/a.pth"}}},
        {"arguments": {"depths": [10**9]}},
        {"arguments": {"img_size": 10**12}},
        {"arguments": {"img_size": "large"}},
        {"architecture": "hf-hub:somebody/something"},
        {"architecture": ["convnextv2_atto"]},
        {"input_channels": 10**12},
        {"input_channels": None},
        {"normalisation": {"mean": 0.5, "std": 0}},
        {"normalisation": {}},
    ],
)
def test_details_that_no_backbone_has_are_refused_and_nothing_is_fetched_or_built(backbone, changes):
    path = backbone / "backbone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=r"backbone\.json"):
        load_backbone(backbone)


def test_nothing_large_is_built_before_the_weights_are_seen_to_fit(backbone):
    """A giant takes 8 GB; the file beside the details holds 14 MB."""
    path = backbone / "backbone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architecture": "vit_giant_patch14_dinov2"}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="is damaged or another network's"):
        load_backbone(backbone)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KB
