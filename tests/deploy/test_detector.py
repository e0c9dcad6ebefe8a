"""The whole way of a Mask R-CNN bundle but the network, whose place an image of labels takes."""

from itertools import count, islice

import numpy as np
import pytest

from sempre.deploy.bundle import read_bundle
from sempre.deploy.tiled_networks import Detector
from sempre.metrics import aji_plus, label_overlap
from sempre.synthetic import FieldOptions, render_field
from tests.deploy.fake_detector import LabelSession
from tests.segmentation.test_tiling import best_ious, paint_disc


@pytest.fixture
def detector(any_bundle):
    """A detector of labels that lists at most 200 particles of what it sees at once."""
    bundle = read_bundle(any_bundle(detections_per_tile=200, proposals_per_tile=1000))
    return lambda tile, cap=200: Detector(bundle, LabelSession(cap), tile, tile // 4)


@pytest.fixture(scope="module")
def fields():
    """Labels of dense fields; the low magnification, where particles are smallest."""
    options = FieldOptions(magnification="low", arrangement="packed", count=260)
    rendered = (render_field(seed, (320, 320), options).labels for seed in count())
    return list(islice((labels for labels in rendered if labels.max() > 190), 16))


def mosaic(parts, side):
    """Label images side by side, `side` of them a row, each particle with its own number."""
    offsets = np.cumsum([0, *(part.max() for part in parts[:-1])])
    numbered = [np.where(part > 0, part + offset, 0) for part, offset in zip(parts, offsets, strict=True)]
    return np.block([numbered[row : row + side] for row in range(0, len(parts), side)])


@pytest.mark.slow
@pytest.mark.parametrize(("side", "tile"), [(4, 1024), (2, 512)])
def test_a_mosaic_of_dense_fields_loses_nothing_to_the_cap(detector, fields, side, tile):
    """The first is seen nearly whole, the second in tiles from the beginning."""
    fields = fields[: side**2]
    alone = [detector(1024).segment(field.astype(np.float32), None, (1.0,)) for field in fields]
    assert not any(overflowing for _, _, overflowing in alone)
    scores_apart = np.mean([aji_plus(label_overlap(field, one[0])) for field, one in zip(fields, alone, strict=True)])

    true = mosaic(fields, side)
    assert true.max() > 190 * side**2
    labels, scores, overflowing = detector(tile).segment(true.astype(np.float32), None, (1.0,))
    assert not overflowing
    assert len(scores) == pytest.approx(sum(len(scores) for _, scores, _ in alone), rel=0.03)
    assert aji_plus(label_overlap(true, labels)) == pytest.approx(scores_apart, abs=0.02)


def test_a_tile_that_overflows_and_cannot_be_cut_is_named(detector):
    true = np.zeros((120, 300), np.float32)
    true[::2, 100:140:2] = np.arange(1, 60 * 20 + 1).reshape(60, 20)  # particles of a single px
    _, scores, overflowing = detector(1024).segment(true, None, (1.0,))
    assert len(scores) < 60 * 20 and overflowing
    assert all(x0 < 140 and x1 > 100 for x0, _, x1, _ in overflowing)


def test_a_high_threshold_does_not_hide_that_a_tile_overflows(detector):
    true = np.zeros((400, 400), np.float32)
    squares = np.arange(1, 401).reshape(20, 20)
    for y, x in np.ndindex(8, 8):
        true[y::20, x::20] = squares
    some = detector(1024)
    _, scores, overflowing = some.segment(true, 0.9, (1.0,))
    assert some.session.calls > 1 and not overflowing and (scores > 0.9).all()


@pytest.mark.parametrize("seed", range(2))
def test_particles_larger_than_the_overlap_come_back_whole(detector, seed):
    random = np.random.default_rng(seed)
    true = np.zeros((4096, 4096), np.int32)
    places = [(700, 750), (2050, 700), (3350, 650), (750, 2600), (2200, 2700), (3500, 2900)]
    for index, (radius, (x, y)) in enumerate(zip(random.permutation(np.linspace(400, 700, 6)), places, strict=True)):
        paint_disc(true, x, y, radius, index + 1)
    labels, scores, _ = detector(1024).segment(true.astype(np.float32), None, (1.0,))
    assert len(scores) == 6 and best_ious(true, labels).min() > 0.95


@pytest.mark.parametrize("shape", [(256, 256), (256, 200), (200, 150), (90, 256)])
def test_a_micrograph_no_longer_than_the_overlap_is_looked_at_once(detector, shape):
    true = np.zeros(shape, np.float32)
    true[30:70, 40:90] = 1
    some = detector(1024)  # whose tiles overlap by 256 px
    labels, scores, _ = some.segment(true, None, (1.0,))
    assert some.count_tiles(shape, (1.0,)) == some.session.calls == len(scores) == 1
    assert best_ious(true.astype(np.int32), labels).min() > 0.95


@pytest.mark.parametrize("tile", [1024, 128])
def test_listing_what_scores_too_little_changes_no_label(any_bundle, tile):
    true = np.zeros((400, 400), np.float32)
    for number, (y, x) in enumerate(np.ndindex(8, 8), start=1):
        true[50 * y + 4 : 50 * y + 40, 50 * x + 7 : 50 * x + 43] = number
    bundle = read_bundle(any_bundle(detections_per_tile=100, proposals_per_tile=1000, score_threshold=0.9))
    detector = Detector(bundle, LabelSession(100), tile, tile // 4)
    labels, scores, _ = detector.segment(true, None, (1.0,))
    same, listed = detector.segment_and_list(true, (1.0,))
    np.testing.assert_array_equal(same, labels)
    assert 0 < len(scores) < 64 <= len(listed)
    assert min(instance.score for instance in listed) < 0.7
