import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.data.sources import FolderSource, open_source
from sempre.embeddings.embedding_file import Embedding
from sempre.embeddings.encoder import open_encoder
from sempre.embeddings.extract import ExtractionOptions
from sempre.embeddings.grid import Grid
from sempre.embeddings.pixel_features import grey_features, token_features
from sempre.embeddings.tiles import TileSource, stitch
from sempre.errors import InputError
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
    embeddings = [Embedding("", Grid(32, 40, 32, 40, 8), np.zeros((4, 5, 1)), None)] * 2
    stitched = stitch([np.full((4, 5, 2), value, np.float32) for value in (1.0, 3.0)], embeddings, boxes)
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


def test_grey_features_without_contrast():
    assert not grey_features(np.full((4, 5), 7, np.uint8)).any()
