import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.data.sources import open_source
from sempre.errors import InputError
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions
from sempre.frozen.prototypes import Clicks
from sempre.frozen.segmented_set import Clustering, MicrographSet, cluster_arm, unet_arm
from sempre.frozen.tiles import TileSource

NOWHERE = np.empty((0, 2))
HOW = {
    "clusters": 2,
    "rule": "border",
    "foreground": [],
    "fill_holes": True,
    "components": 5,
    "grey_weight": 1.0,
    "smoothing": 0.0,
    "seed": 0,
}


def square(height: int = 48, width: int = 64) -> np.ndarray:
    """Where the bright square is, bool `[48, 64]`."""
    mask = np.zeros((height, width), bool)
    mask[16:32, 24:48] = True
    return mask


@pytest.fixture
def tiles(tmp_path) -> TileSource:
    """Three micrographs of a bright square."""
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0)
    for name in "abc":
        pixels = 40 + 150 * square() + noise.integers(0, 20, square().shape)
        tifffile.imwrite(tmp_path / f"images/{name}.tif", pixels.astype(np.uint8))
    options = ExtractionOptions(embeddings=str(tmp_path / "embeddings"), workers=0)
    return TileSource(open_source(tmp_path / "images"), options, 64)


def micrographs(tiles: TileSource, **clicks: Clicks) -> MicrographSet:
    clicked = {"abc".index(name): points for name, points in clicks.items()}
    order = [*clicked, *(position for position in range(3) if position not in clicked)]
    return MicrographSet(tiles, order, list("abc"), clicked)


def test_clusters_of_grey_values_are_numbered_by_brightness_and_the_rule_takes_the_square(tiles):
    found = cluster_arm("grey value", micrographs(tiles), Clustering(**HOW), side=0).segment(1)
    np.testing.assert_array_equal(found.mask, square())
    np.testing.assert_array_equal(found.clusters, square().astype(int))
    assert found.chosen == (1,)


def test_squares_of_px_and_a_backbones_cells_are_clustered_too(tiles):
    squares = cluster_arm("patches", micrographs(tiles), Clustering(**HOW), side=8).segment(0)
    np.testing.assert_array_equal(squares.mask, square())
    with tiles.extract(open_encoder("intensity", layer=1)) as embeddings:
        cells = cluster_arm("intensity", micrographs(tiles), Clustering(**HOW), 0, embeddings).segment(0)
    assert (cells.mask == square()).mean() > 0.9


def test_numbers_go_before_clicks_and_clicks_before_the_rule(tiles):
    ground = Clicks(np.array([[2.0, 3.0]]), NOWHERE)
    clicked = micrographs(tiles, b=ground)
    arm = cluster_arm("grey value", clicked, Clustering(**HOW | {"fill_holes": False}), side=0)
    masks = {position: arm.segment(position).mask for position in clicked.order}
    assert list(masks) == [1, 0, 2]
    for mask in masks.values():
        np.testing.assert_array_equal(mask, ~square(), "what most of the clicked ones have")
    given = cluster_arm("grey value", clicked, Clustering(**HOW | {"foreground": [2]}), side=0)
    np.testing.assert_array_equal(given.segment(1).mask, square())


def test_a_click_outside_is_told_with_the_micrographs_name(tiles):
    arm = cluster_arm(
        "grey value", micrographs(tiles, b=Clicks(np.array([[99.0, 3.0]]), NOWHERE)), Clustering(**HOW), 0
    )
    with pytest.raises(InputError, match=r"b: the point y=99 x=3 is outside the micrograph of 48x64 px"):
        arm.segment(1)


@pytest.fixture
def run(tmp_path) -> Path:
    """A U-Net's run that held out `b` and `a`."""
    (tmp_path / "unet/fold-0/predictions").mkdir(parents=True)
    (tmp_path / "unet/config.yaml").write_text("protocol: split\n")
    fold = {"fitted": ["c", "d"], "stopping": ["e"], "samples": {"b": {}, "a": {}}}
    (tmp_path / "unet/summary.json").write_text(json.dumps({"folds": {"validation": fold}}))
    Image.fromarray(255 * square().astype(np.uint8)).save(tmp_path / "unet/fold-0/predictions/b.png")
    return tmp_path / "unet"


def test_a_trained_network_is_an_arm_of_the_masks_that_it_left(run):
    arm = unet_arm(run, ["a", "b"])
    assert (arm.name, arm.labelled_micrographs) == ("U-Net unet", 3)
    np.testing.assert_array_equal(arm.segment(1).mask, square())
    assert arm.segment(1).clusters is None
    with pytest.raises(InputError, match="did not hold out c"):
        unet_arm(run, ["a", "c"])
    (run / "config.yaml").write_text("protocol: leave_one_sample_out\n")
    with pytest.raises(InputError, match="protocol=split: make one to compare with"):
        unet_arm(run, ["a", "b"])
    with pytest.raises(InputError, match="is no finished run"):
        unet_arm(run.parent, ["a", "b"])
