"""A dense bundle in the segmenter, on a network that takes what is bright for particles."""

import numpy as np
import pytest

from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.images import percentile_normalise
from sempre.metrics import aji_plus
from sempre.segmentation.particles import particle_row
from tests.deploy.conftest import write_brightness_bundle, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_brightness_bundle(tmp_path_factory.mktemp("bundles") / "brightness")


@pytest.fixture(scope="module")
def squares():
    """Bright squares of 40 px, the last ones dimmer, and their labels."""
    labels = np.zeros((300, 420), np.int32)
    for number in range(12):
        y, x = 20 + 90 * (number // 4), 20 + 100 * (number % 4)
        labels[y : y + 40, x : x + 40] = number + 1
    brightness = np.where(labels > 8, 160, 220)
    return np.where(labels > 0, brightness, 30).astype(np.uint8), labels


@pytest.mark.parametrize("tile", [None, 128])
def test_particles_are_found_and_numbered_by_falling_score(bundle, squares, tile):
    pixels, true = squares
    segmentation = Segmenter(bundle, tile=tile).segment(pixels, pixel_size_nm=2.0)
    assert aji_plus(true, segmentation.labels) > 0.95
    scores = [particle.score for particle in segmentation.particles]
    assert len(scores) == 12 and scores == sorted(scores, reverse=True)
    assert not segmentation.overflowing
    assert segmentation.pixel_size_nm == 2.0


def test_a_threshold_leaves_out_what_scores_less(bundle, squares):
    pixels, true = squares
    dim = percentile_normalise(pixels)[true > 8].mean()
    segmentation = Segmenter(bundle).segment(pixels, score_threshold=(1 + dim) / 2)
    assert len(segmentation.particles) == 8
    assert (segmentation.labels[true > 8] == 0).all()
    assert set(np.unique(segmentation.labels)) == set(range(9))


def test_flips_are_for_maps(bundle, squares, bright_box_bundle):
    pixels, true = squares
    assert aji_plus(true, Segmenter(bundle, flips=True).segment(pixels).labels) > 0.95
    with pytest.raises(InputError, match="no maps to average"):
        Segmenter(bright_box_bundle, flips=True)


@pytest.mark.parametrize("scales", [[], [0.0], "all"])
def test_scales_that_cannot_be_are_refused(tmp_path, scales):
    folder = write_bundle(
        tmp_path / "bundle",
        b"no network",
        kind="dense",
        scales=scales,
        decoding={"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5},
    )
    with pytest.raises(InputError, match="export the bundle again"):
        Segmenter(folder)


@pytest.mark.parametrize("flips", [False, True])
def test_progress_is_told_tile_by_tile(bundle, squares, flips):
    told = []
    segmenter = Segmenter(bundle, tile=128, flips=flips)
    segmenter.segment(squares[0], progress=lambda looks, of: told.append((looks, of)))
    expected = told[0][1]
    assert expected > 8 and told == [(looks, expected) for looks in range(1, expected + 1)]


def test_a_scale_by_hand_is_the_only_one_seen(bundle, squares):
    pixels, true = squares
    segmentation = Segmenter(bundle, scale=0.75).segment(pixels)
    assert aji_plus(true, segmentation.labels) > 0.9
    assert len(seen_sizes(Segmenter(bundle, scale=0.75), pixels)) == 1 < len(seen_sizes(Segmenter(bundle), pixels))


def seen_sizes(segmenter, pixels):
    """The sizes of the views that the network was shown."""
    sizes, look = set(), segmenter.model._maps
    segmenter.model._maps = lambda view: (sizes.add(view.shape), look(view))[1]
    segmenter.segment(pixels)
    return sizes


@pytest.mark.parametrize("size", [None, 2.0, (2.0, 5.0)])
def test_particles_above_a_score_are_those_that_the_threshold_finds(bundle, size):
    labels = np.zeros((120, 300), np.int32)
    for number, x in enumerate((20, 62, 104, 220), start=1):  # the second one, which is dim, lies between others
        labels[30:70, x : x + 40] = number
    pixels = np.where(labels == 2, 165, np.where(labels > 0, 220, 30)).astype(np.uint8)
    found = Segmenter(bundle).segment(pixels, size)
    least = min(particle.score for particle in found.particles)
    assert len(found.particles) == 4
    above, alone = found.above(least), Segmenter(bundle).segment(pixels, size, score_threshold=least)
    assert len(above.particles) == len(alone.particles) == 3
    for one, other in zip(above.particles, alone.particles, strict=True):
        assert particle_row(one, size) == particle_row(other, size)
    assert max(particle.distance_to_next or 0 for particle in above.particles) > 60
