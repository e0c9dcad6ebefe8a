import numpy as np
import pytest
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from sempre.deploy.released import find_weights
from sempre.errors import InputError
from sempre.frozen.encoder import Encoder, official_architecture, open_encoder, pad_to_cells, split_layer
from sempre.images.normalise import MEAN, STD
from sempre.models.backbones import BackboneDetails, save_backbone
from sempre.models.dense import load_dense
from sempre.models.original_fcmae import original_state_dict
from tests.models.test_official_vit import normalised, official_layout, save

ATTO = "convnextv2_atto"


@pytest.mark.parametrize(("file", "registers"), [("dinov2_vits14_pretrain", 0), ("dinov2_vits14_reg4_pretrain", 4)])
def test_an_official_file_gives_the_tokens_of_timms_own_network(tmp_path, file, registers):
    """At full size, for an image of another size than that of the positions."""
    torch.manual_seed(0)
    name = f"vit_small_patch14{'_reg4' if registers else ''}_dinov2"
    reference = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    path = save(tmp_path / f"{file}.pth", official_layout(reference))
    encoder = open_encoder(str(path))
    assert (encoder.architecture, encoder.cell, encoder.width) == (name, 14, 384)
    levels = torch.rand(1, 1, 84, 112)
    with torch.no_grad():
        tokens = reference.forward_features(
            normalised(levels.expand(-1, 3, -1, -1), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
    features = encoder(levels)
    assert features.cells.shape == (1, 6, 8, 384)
    torch.testing.assert_close(features.cells.flatten(1, 2), tokens[:, 1 + registers :], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features.class_token, tokens[:, 0], rtol=1e-3, atol=1e-3)
    named = open_encoder(name, str(path))
    assert named.checksum == encoder.checksum


def test_a_backbone_is_read_as_it_was_pretrained(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(ATTO, in_chans=1, num_classes=0).eval()
    save_backbone(tmp_path, network, BackboneDetails(ATTO, 1, "fcmae", "", 0.1, {}))
    encoder = open_encoder(str(tmp_path), layer=2)
    levels = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        stages = network.forward_intermediates((levels - 0.5) / 0.25, intermediates_only=True)
    torch.testing.assert_close(encoder(levels).cells, stages[2].permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    assert encoder.cell == 16
    assert encoder(levels).class_token is None
    levels_as_bytes = (levels * 255).round().to(torch.uint8)
    torch.testing.assert_close(encoder(levels_as_bytes).cells, encoder(levels_as_bytes / 255).cells)


def test_random_weights_are_those_of_the_seed():
    assert open_encoder(f"random:{ATTO}").checksum == open_encoder(f"random:{ATTO}").checksum
    assert open_encoder(f"random:{ATTO}").checksum != open_encoder(f"random:{ATTO}", seed=1).checksum
    assert open_encoder(f"random:{ATTO}").checksum != open_encoder(f"random:{ATTO}", layer=-2).checksum


def test_intensity_is_the_histogram_of_each_cell():
    encoder = open_encoder("intensity", layer=1)
    levels = np.linspace(0, 1, 16)[np.random.default_rng(0).integers(0, 16, (16, 24))]
    cells = encoder(torch.from_numpy(levels).float()[None, None]).cells[0].numpy()
    counts = np.histogram(levels[8:16, 16:24], np.linspace(0, 1, 16 + 1))[0] / 64
    np.testing.assert_allclose(cells[1, 2], counts, atol=1e-5)
    np.testing.assert_allclose(cells.sum(-1), 1, atol=1e-5)


def test_a_network_for_colours_sees_them_and_one_for_grey_values_their_luminance():
    images = torch.rand(1, 3, 32, 32)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True).eval()
    coloured = Encoder(network, "coloured", "vit_tiny_patch16_224", -1, mean, std)
    levels = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    torch.testing.assert_close(coloured.normalise(images), (images - levels[0]) / levels[1])
    grey = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    encoder = open_encoder("random:convnextv2_atto")
    torch.testing.assert_close(encoder(images).cells, encoder(grey).cells, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(coloured(images).cells, coloured(grey).cells, atol=1e-3)


def test_images_are_continued_by_their_mirror_image():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    padded = pad_to_cells(image, 5)
    assert padded.shape == (1, 1, 5, 5)
    assert padded[0, 0, 3, 0] == image[0, 0, 1, 0]
    assert padded[0, 0, 0, 4] == image[0, 0, 0, 2]
    assert pad_to_cells(image, 32).shape == (1, 1, 32, 32)
    assert pad_to_cells(image, 1) is image


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_of_the_original_convnextv2_code_is_read_as_its_own_code_reads_it(tmp_path, channels):
    torch.manual_seed(0)
    network = timm.create_model(ATTO, in_chans=channels, num_classes=0).eval()
    path = tmp_path / "pretrained.pth"
    torch.save({"model": original_state_dict(network), "epoch": 7}, path)
    encoder = open_encoder(str(path), layer=2)
    assert encoder.architecture == ATTO
    levels = torch.rand(1, 1, 64, 96)
    colours = normalised(levels.expand(-1, 3, -1, -1), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    with torch.no_grad():
        stages = network.forward_intermediates(levels if channels == 1 else colours, intermediates_only=True)
    torch.testing.assert_close(encoder(levels).cells, stages[2].permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
    assert open_encoder(ATTO, str(path), layer=2).checksum == encoder.checksum
    with pytest.raises(InputError, match=f"is a {ATTO}, not a convnextv2_pico"):
        open_encoder("convnextv2_pico", str(path))


def test_what_cannot_be_opened(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "my_weights.pth")
    for name, message in {
        "nothing": "is neither a backbone/ folder",
        "random:nothing": "timm has no architecture 'nothing'",
        "random:beit_base_patch16_224": "gives no maps",
        str(tmp_path): "is no backbone",
        str(tmp_path / "my_weights.pth"): "tells no architecture",
        "dinov2_vits14_pretrain.pth": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            open_encoder(name)
    with pytest.raises(InputError, match="layer=4 is none of the 4"):
        open_encoder(f"random:{ATTO}", layer=4)


def test_the_layer_behind_a_name_goes_first(tmp_path):
    assert open_encoder(f"random:{ATTO}@-2", layer=0).cell == 16
    assert open_encoder(f"random:{ATTO}@1").read_out == "layer 2 of 4, 8 px"
    assert split_layer("runs/dino/backbone@-3") == ("runs/dino/backbone", -3)
    (tmp_path / "run@2").mkdir()
    assert split_layer(str(tmp_path / "run@2")) == (str(tmp_path / "run@2"), None), "a folder's own name"
    with pytest.raises(InputError, match="layer=9 is none of the 4"):
        open_encoder(f"random:{ATTO}@9")


def test_the_deepest_layer_of_fine_cells_is_chosen_by_family():
    assert open_encoder(f"random:{ATTO}").deepest(16) == -2
    assert open_encoder("random:vit_tiny_patch16_224").deepest(16) == -1
    assert open_encoder("intensity").deepest(16) == -2
    assert open_encoder(f"random:{ATTO}").deepest(2) == -4


def test_names_of_official_files_tell_the_architecture(tmp_path):
    assert official_architecture(tmp_path / "dinov2_vitg14_reg4_pretrain.pth") == "vit_giant_patch14_reg4_dinov2"
    assert official_architecture(tmp_path / "dinov2_vitb14_pretrain.pth") == "vit_base_patch14_dinov2"
    assert official_architecture(tmp_path / "dino_deitsmall8_pretrain.pth") == "vit_small_patch8_224"
    assert official_architecture(tmp_path / "dino_vitbase16_pretrain.pth") == "vit_base_patch16_224"
    for size in "sblg":
        for registers in ("", "_reg4"):
            assert timm.is_model(official_architecture(tmp_path / f"dinov2_vit{size}14{registers}_pretrain.pth"))


def test_the_released_model_is_a_backbone_by_its_name():
    encoder = open_encoder("particles", layer=1)
    assert (encoder.architecture, encoder.cell, encoder.has_class_token) == ("unet_medium", 4, False)
    segmenter, _ = load_dense(find_weights("particles"))
    images = torch.rand(1, 1, 64, 96)
    expected = segmenter.encoder((images - MEAN) / STD)[1].permute(0, 2, 3, 1)
    torch.testing.assert_close(encoder(images).cells, expected.detach())
