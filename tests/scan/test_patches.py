import numpy as np
import pytest
import torch

from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding
from sempre.frozen.encoder import Grid, open_encoder
from sempre.frozen.tiles import describe_windows
from sempre.scan.patches import PatchOptions, see, stand_out
from sempre.scan.preview import prepare, read_preview


def test_windows_are_the_means_and_deviations_of_the_px_there():
    pixels = np.random.default_rng(0).random((96, 128)).astype(np.float32)
    margin, side = 32, 32
    continued = np.pad(pixels, margin, "reflect")
    embedding = Embedding("", Grid(*continued.shape, *continued.shape, 1), continued[..., None], None)
    grid = Grid(96, 128, 96, 128, 16)  # windows at the border lie within it
    found = describe_windows(embedding, grid, side, margin).reshape(6, 8, 2)
    for row, column in ((0, 0), (2, 5), (5, 7)):
        y, x = (
            np.clip(place * 16 + 8 - side // 2, 0, length - side) + margin
            for place, length in ((row, 96), (column, 128))
        )
        window = continued[y : y + side, x : x + side]
        np.testing.assert_allclose(found[row, column], [window.mean(), window.std()], rtol=1e-4)


def test_what_changes_slowly_is_taken_off():
    ramp = np.linspace(0, 100, 40)[None, :, None] * np.ones((40, 1, 1))
    ramp[20, 20] += 5
    left = stand_out(ramp.reshape(-1, 1), (40, 40), 4).reshape(40, 40)
    assert np.abs(left[12:28, 12:28]).argmax() == 8 * 16 + 8
    assert np.abs(np.delete(left[12:28, 12:28], 8 * 16 + 8)).max() < 0.5


@pytest.mark.parametrize("backbone", ["intensity", "particles"])
def test_an_odd_place_is_seen_in_features_of_any_backbone_and_computed_once(backbone, tmp_path, monkeypatch):
    random = np.random.default_rng(3)
    pixels = random.normal(100, 4, (192, 256))
    pixels[90:110, 150:170] += 60
    preview = prepare(pixels)
    encoder = open_encoder(backbone, layer=0)
    options = PatchOptions(components=8)
    patches = see(preview, encoder, options, str(tmp_path))
    assert patches.shape == (16, 22)
    assert patches.vectors.shape == (352, 8)
    odd = np.linalg.norm(patches.vectors, axis=1).argmax()
    assert np.abs(patches.centres[odd] - (100, 160)).max() <= 24
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("the network looked again"))
    np.testing.assert_array_equal(see(preview, encoder, options, str(tmp_path)).vectors, patches.vectors)


def test_borders_are_no_anomaly(tmp_path):
    pixels = np.random.default_rng(4).normal(100, 10, (256, 256))
    patches = see(prepare(pixels), open_encoder("particles", layer=0), PatchOptions(), str(tmp_path))
    strength = np.linalg.norm(patches.vectors, axis=1).reshape(patches.shape)
    inner = strength[3:-3, 3:-3]
    border = np.concatenate([strength[0], strength[-1], strength[:, 0], strength[:, -1]])
    assert border.mean() < 1.6 * inner.mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": [32, 300]}, r"scales=\[32, 300\] are no patches of a preview of 256x256 px"),
        ({"stride": 40}, "stride=40 leaves gaps"),
        ({"components": 0}, "components=0"),
    ],
)
def test_options_that_cannot_be(preview, options, message):
    with pytest.raises(InputError, match=message):
        see(preview, open_encoder("intensity"), PatchOptions(**options))


def test_a_preview_is_prepared_as_asked(tmp_path):
    pixels = np.full((80, 90), 100.0)
    pixels[:, 45:] = 140
    pixels[40, 20] = 1000  # a hot px
    plain, smooth = prepare(pixels).pixels, prepare(pixels, denoise=3).pixels
    assert plain[40, 20] == 255
    assert smooth[40, 20] == 0
    assert prepare(pixels).sha256s != prepare(pixels, denoise=3).sha256s
    local = prepare(np.random.default_rng(0).normal(pixels, 1), clahe=0.02).pixels
    assert local[:, :40].std() > prepare(np.random.default_rng(0).normal(pixels, 1)).pixels[:, :40].std()
    for bad, message in ((np.zeros((80, 80)), "a single grey value"), (np.zeros((8, 8)), "64x64 px or more")):
        with pytest.raises(InputError, match=message):
            prepare(bad)
    with pytest.raises(InputError, match="does not exist"):
        read_preview(tmp_path / "none.tif")
