import pytest
import timm
import torch

from sempre.errors import InputError
from sempre.models.backbones import BackboneDetails, save_backbone
from sempre.models.initial_weights import initial_percentiles, initial_weights_name, load_initial_weights

ATTO = "convnextv2_atto"


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(ATTO, in_chans=1, num_classes=0)


@pytest.fixture
def backbone(tmp_path):
    """A backbone that was pretrained on 2nd to 98th percentiles."""
    normalisation = {"percentiles": [2, 98], "mean": 0.5, "std": 0.25}
    details = BackboneDetails(ATTO, 1, "fcmae", "", 0.1, {}, normalisation=normalisation)
    save_backbone(tmp_path / "own", network(7), details)
    return str(tmp_path / "own")


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())


def test_a_backbones_weights_are_taken_and_none_leaves_the_random_ones(backbone):
    body = network(0)
    load_initial_weights(body, ATTO, "none")
    assert same(body, network(0))
    load_initial_weights(body, ATTO, backbone)
    assert same(body, network(7))
    with pytest.raises(InputError, match="set architecture=convnextv2_atto"):
        load_initial_weights(body, "convnextv2_pico", backbone)


def test_imagenets_weights_are_taken_from_a_file_and_are_recorded_with_its_checksum(tmp_path):
    torch.manual_seed(1)
    colour = timm.create_model(ATTO, num_classes=1000)
    torch.save(colour.state_dict(), tmp_path / "mine.pth")
    body = network(0)
    load_initial_weights(body, ATTO, "imagenet", str(tmp_path / "mine.pth"))
    # Levels were normalised by 0.229, 0.224 and 0.225, the channels' deviations, and are by 0.25 now.
    deviations = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(body.stem[0].weight, (colour.stem[0].weight * 0.25 / deviations).sum(1, keepdim=True))
    assert initial_weights_name(ATTO, "imagenet", str(tmp_path / "mine.pth")).startswith("mine.pth (SHA-256 ")
    assert initial_weights_name(ATTO, "imagenet") == f"{ATTO}.fcmae_ft_in1k"
    with pytest.raises(InputError, match=r"nothing\.pth"):
        load_initial_weights(body, ATTO, "imagenet", str(tmp_path / "nothing.pth"))
    assert initial_weights_name(ATTO, "runs/fcmae/backbone") == "runs/fcmae/backbone"


def test_percentiles_given_go_before_the_backbones(backbone):
    assert initial_percentiles(backbone) == (2.0, 98.0)
    assert initial_percentiles(backbone, [5, 95]) == (5.0, 95.0)
    assert initial_percentiles("none") == (1.0, 99.0)
    with pytest.raises(InputError, match=r"percentiles=\[95, 5\] are no range"):
        initial_percentiles(backbone, [95, 5])
