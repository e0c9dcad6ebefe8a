import numpy as np
import pytest
import torch
from PIL import Image

from sempre.data.labelled import LabelledSet
from sempre.files import write_json
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract
from sempre.frozen.heat_maps import fit_heat_maps
from sempre.frozen.prototypes import threshold
from sempre.frozen.refinement import RefinerInputs, input_channels, load_refiner
from sempre.frozen.tasks import labelled_source
from sempre.images.resize import resize_to
from sempre.models.unet import UNet
from sempre.models.weight_files import DETAILS, WEIGHTS, save_weights


@pytest.fixture
def labelled(tmp_path) -> LabelledSet:
    """Two micrographs of 64x80 px with a bright particle each."""
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number, name in enumerate("ab"):
        labels = np.zeros((64, 80), np.uint8)
        labels[20:44, 10 + 8 * number : 50] = 1
        Image.fromarray(30 + 150 * labels + random.integers(0, 20, labels.shape, dtype=np.uint8)).save(
            tmp_path / f"set/images/{name}.png"
        )
        Image.fromarray(labels).save(tmp_path / f"set/labels/{name}.png")
    return LabelledSet(tmp_path / "set")


def inputs_of(labelled: LabelledSet, names: str, embeddings=None, heat_maps=None, **extraction) -> RefinerInputs:
    source = labelled_source(labelled, np.arange(2))
    return RefinerInputs(labelled, source, embeddings, heat_maps, ExtractionOptions(**extraction), names, "otsu", 10.0)


def test_a_network_without_a_heat_map_sees_grey_values_at_the_size_asked_for(labelled):
    inputs = inputs_of(labelled, "raw", size=40)
    image = inputs.image(1)
    assert image.shape == (1, 32, 40) and image.dtype == np.float16
    np.testing.assert_allclose(image[0], resize_to(labelled.read(1).pixels, (32, 40)) / 255, atol=1e-3)
    assert inputs.heat(1) is None and inputs.heat_mask(1, (64, 80)) is None
    np.testing.assert_array_equal(inputs.mask(1, (64, 80)), labelled.read(1).foreground)
    assert inputs.mask(1, (32, 40)).sum() == 12 * 16
    torch.manual_seed(0)
    image, true = inputs.prediction(UNet(1, width=2).eval(), 1)
    assert image.shape == true.shape == (64, 80)
    assert 0 <= image.min() < image.max() <= 1
    np.testing.assert_array_equal(true, labelled.read(1).foreground)


def test_heat_maps_are_channels_of_their_own_and_what_is_described_is_loaded_again(labelled, tmp_path):
    encoder = open_encoder("random:convnextv2_atto", layer=0, seed=3)
    options = ExtractionOptions(layer=0, size=80, embeddings=str(tmp_path / "embeddings"), workers=0)
    names = "raw+heatmap+mask"
    with extract(labelled_source(labelled, np.arange(2)), encoder, options) as embeddings:
        known = [embeddings[sha256] for sha256 in labelled.sha256s], [labelled.read(n).foreground for n in range(2)]
        heat_maps = fit_heat_maps(*known, points=5, margin=2.0, count=2)
        inputs = inputs_of(labelled, names, embeddings, heat_maps, layer=0, size=80)
        raw, heat, mask = inputs.image(0)
        np.testing.assert_allclose(heat, heat_maps(known[0][0]), rtol=1e-2, atol=1e-2)
        np.testing.assert_array_equal(mask > 0, heat_maps(known[0][0]) > threshold(inputs.heat(0), "otsu"))
        np.testing.assert_array_equal(inputs.heat_mask(0, (64, 80)), mask > 0)

        torch.manual_seed(1)
        network = UNet(input_channels(names), width=3, levels=1).eval()
        (tmp_path / "fold-0").mkdir()
        save_weights(network, tmp_path / "fold-0" / WEIGHTS)
        details = inputs.describe(0.45, width=3, levels=1)
        details |= inputs.describe_heat_maps("random:convnextv2_atto", "", 3)
        write_json(tmp_path / "fold-0" / DETAILS, details)
        refiner = load_refiner(tmp_path / "fold-0")
        pixels = inputs.source.read(0)[0]
        expected, _ = inputs.prediction(network, 0)
        found = refiner.mask(pixels, raw.shape, known[0][0])
        np.testing.assert_array_equal(found, expected > 0.45)
    assert refiner.extraction().size == 80


def test_without_heat_maps_there_is_nothing_to_say_of_them(labelled):
    assert inputs_of(labelled, "raw").describe_heat_maps("", "", 0) == {}
