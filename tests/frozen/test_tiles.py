import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from sempre.data.sources import FolderSource, open_source
from sempre.errors import InputError
from sempre.frozen.clusters import level_features, patch_means, patches_to_pixels, token_features
from sempre.frozen.encoder import Grid, open_encoder
from sempre.frozen.extract import ExtractionOptions
from sempre.frozen.tiles import TileSource, stitch
from sempre.images.resize import resize_to


@pytest.fixture
def source(tmp_path) -> FolderSource:
    """Two micrographs, the second smaller than a tile of 64 px."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number, shape in enumerate([(100, 150), (40, 60)]):
        tifffile.imwrite(tmp_path / f"images/{number}.tif", random.integers(0, 255, shape, dtype=np.uint8))
    return open_source(tmp_path / "images")


def options(source: FolderSource, **changes) -> ExtractionOptions:
    return ExtractionOptions(embeddings=str(Path(source.path).parent / "embeddings"), workers=0, **changes)


def test_tiles_are_equal_overlap_and_cover_the_micrograph(source):
    tiles = TileSource(source, options(source), 64)
    assert [len(boxes) for boxes in tiles.boxes] == [2 * 3, 1]
    counts = np.zeros((100, 150), int)
    for position, (x0, y0, x1, y1) in enumerate(tiles.boxes[0]):
        counts[y0:y1, x0:x1] += 1
        np.testing.assert_array_equal(tiles.read(position)[0], source.read(0)[0][y0:y1, x0:x1])
        assert (x1 - x0, y1 - y0) == (64, 64)
    assert counts.min() == 1
    assert (counts[:, 0] == 2).sum() >= 8
    np.testing.assert_array_equal(tiles.read(6)[0], source.read(1)[0])
    assert len(set(tiles.sha256s)) == 7
    assert all(len(sha256) == len(hashlib.sha256().hexdigest()) for sha256 in tiles.sha256s)


def test_micrographs_are_resized_before_they_are_cut(source):
    tiles = TileSource(source, options(source, size=75), 64)
    assert tiles.micrograph(0).shape == (50, 75)
    np.testing.assert_array_equal(tiles.micrograph(0), resize_to(source.read(0)[0], (50, 75)))
    assert [len(boxes) for boxes in tiles.boxes] == [2, 2]
    encoder = open_encoder("random:convnextv2_atto", layer=0)
    halved = TileSource(source, options(source, scale=0.5), 64)
    with halved.extract(encoder) as embeddings:
        grid = embeddings[halved.sha256s[-1]].grid
    assert (grid.input_height, grid.input_width) == (20, 30), "once, not once more as a tile"
    with TileSource(source, options(source, scale=0.25), 64).extract(encoder) as embeddings:
        assert embeddings.path != halved.extract(encoder).path


def test_a_tile_that_is_no_tile(source):
    with pytest.raises(InputError, match="tile=8 is too small"):
        TileSource(source, options(source), 8)


def test_stitched_values_are_those_of_the_tiles_and_their_mean_where_they_overlap():
    boxes = [(0, 0, 40, 32), (24, 0, 64, 32)]
    grids = [Grid(32, 40, 32, 40, 8)] * 2
    stitched = stitch([np.full((4, 5, 2), value, np.float32) for value in (1.0, 3.0)], grids, boxes)
    assert stitched.shape == (32, 64, 2)
    assert (stitched[:, :24] == 1).all()
    assert (stitched[:, 24:40] == 2).all()
    assert (stitched[:, 40:] == 3).all()


def test_features_of_one_tile_are_its_principal_components_and_grey_values(source):
    tiles, encoder = TileSource(source, options(source), 64), open_encoder("random:convnextv2_atto", layer=1)
    with tiles.extract(encoder) as embeddings:
        features = token_features(tiles, embeddings, 1, components=3, grey_weight=0.5, smoothing=0.0)
        cells = embeddings[tiles.sha256s[6]].cells.reshape(-1, 80).astype(np.float64)
        whole = token_features(tiles, embeddings, 0, components=3)
    assert whole.shape == (100, 150, 4)
    pixels = source.read(1)[0].astype(np.float64)
    assert features.shape == (40, 60, 4)
    np.testing.assert_allclose(features[..., 3], 0.5 * (pixels - pixels.mean()) / pixels.std(), atol=1e-4)
    left, values, _ = np.linalg.svd(cells - cells.mean(0), full_matrices=False)
    components = (left[:, :3] * values[:3] / (left[:, 0] * values[0]).std()).reshape(5, 8, 3)
    for channel in range(3):
        expected = Grid(40, 60, 40, 60, 8).to_pixels(components[..., channel])
        sign = np.sign((expected * features[..., channel]).sum())
        np.testing.assert_allclose(features[..., channel], sign * expected, atol=1e-3)


def test_no_number_of_workers_changes_a_feature(source):
    encoder = open_encoder("random:convnextv2_atto", layer=1)
    results = []
    for workers in (0, 2):
        changed = options(source)
        changed.workers, changed.embeddings = workers, f"{changed.embeddings}-{workers}"
        tiles = TileSource(source, changed, 64)
        with tiles.extract(encoder) as embeddings:
            results.append([token_features(tiles, embeddings, index) for index in range(2)])
    for alone, shared in zip(*results, strict=True):
        np.testing.assert_array_equal(alone, shared)


def test_levels_without_contrast():
    assert not level_features(np.full((4, 5), 7, np.uint8)).any()


def test_colours_keep_their_hues_and_three_equal_channels_are_as_good_as_one():
    grey = np.random.default_rng(0).integers(0, 255, (9, 11), dtype=np.uint8)
    one, three = level_features(grey), level_features(np.dstack([grey] * 3))
    assert one.shape == (9, 11, 1) and three.shape == (9, 11, 3)
    between = [np.linalg.norm(levels[0, 0] - levels[5, 5]) for levels in (one, three)]
    assert between[0] == pytest.approx(between[1], rel=1e-4)
    red = np.dstack([grey, np.full_like(grey, 80), np.full_like(grey, 10)])
    levels = level_features(red, smoothing=0.0)
    assert not levels[..., 1:].any(), "channels without contrast are not amplified"
    np.testing.assert_allclose(levels[..., 0], (grey - grey.mean()) / grey.std(), atol=1e-4)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
def test_the_mean_of_a_patch_is_the_mean_of_its_px(height, width, side):
    values = np.random.default_rng(0).random((height, width, 2), dtype=np.float32)
    means = patch_means(values, side)
    for row in range(means.shape[0]):
        for column in range(means.shape[1]):
            square = values[row * side : (row + 1) * side, column * side : (column + 1) * side]
            np.testing.assert_allclose(means[row, column], square.mean((0, 1)), rtol=1e-4)
    spread = patches_to_pixels(np.arange(means[..., 0].size).reshape(means.shape[:2]), side, (height, width))
    assert spread.shape == (height, width)
    assert spread[-1, -1] == means[..., 0].size - 1
    assert spread[0, min(side, width) - 1] == 0


def test_features_of_patches_are_the_means_of_those_of_px(source):
    tiles, encoder = TileSource(source, options(source), 64), open_encoder("random:convnextv2_atto", layer=1)
    with tiles.extract(encoder) as embeddings:
        of_pixels = token_features(tiles, embeddings, 0, components=3)
        of_patches = token_features(tiles, embeddings, 0, components=3, patch=8)
    assert of_patches.shape == (13, 19, 4)
    np.testing.assert_allclose(of_patches[2, 5, :3], of_pixels[16:24, 40:48, :3].mean((0, 1)), rtol=1e-4, atol=1e-5)
    assert of_patches[..., 3].std() == pytest.approx(1, rel=1e-4)


def test_colours_are_tiled_resized_and_embedded_in_three_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", colours, photometric="rgb")
    source = open_source(tmp_path / "images", (0, 100), colour=True)
    tiles = TileSource(source, options(source, size=75), 64)
    assert tiles.micrograph(0).shape == (60, 75, 3) and tiles.shapes[0] == (80, 100)
    assert tiles.read(0)[0].shape == (60, 64, 3)
    encoder = open_encoder("random:convnextv2_atto", layer=1)
    grey = TileSource(open_source(tmp_path / "images", (0, 100)), tiles.options, 64)
    with tiles.extract(encoder) as coloured, grey.extract(encoder) as without:
        assert token_features(tiles, coloured, 0, components=3).shape == (60, 75, 6)
        assert coloured.path != without.path, "one is not taken for the other"


def test_stores_have_no_colours(tmp_path):
    (tmp_path / "store.h5").touch()
    with pytest.raises(InputError, match="is read in grey: for colours give a folder"):
        open_source(tmp_path / "store.h5", colour=True)
