import numpy as np
import pytest
from scipy import ndimage

from sempre.segmentation.detections import Instance
from sempre.segmentation.tiling import Detections, detect_in_tiles, paint_particles, tile_boxes
from tests.deploy.fake_detector import CELLS, perfect_detector


def scatter_discs(random, shape, diameters, gap=3.0):
    """A label image [H, W] of discs that do not overlap, largest first."""
    labels = np.zeros(shape, np.int32)
    placed = np.zeros((0, 3))
    for diameter in sorted(diameters, reverse=True):
        for _ in range(500):
            x, y = random.uniform(0, shape[1]), random.uniform(0, shape[0])
            distances = np.hypot(placed[:, 0] - x, placed[:, 1] - y) - placed[:, 2] - diameter / 2
            if (distances > gap).all():
                placed = np.vstack([placed, (x, y, diameter / 2)])
                paint_disc(labels, x, y, diameter / 2, len(placed))
                break
    return labels


def paint_disc(labels, x, y, radius, value):
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    view = labels[top : int(y + radius) + 1, left : int(x + radius) + 1]
    rows, columns = np.ogrid[: view.shape[0], : view.shape[1]]
    view[(left + columns + 0.5 - x) ** 2 + (top + rows + 0.5 - y) ** 2 <= radius**2] = value


def tight_box(instance):
    rows, columns = np.nonzero(instance.mask)
    x, y = instance.x, instance.y
    return x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1


def painted(instances, shape):
    masks = [(instance.y, instance.x, instance.mask) for instance in instances]
    return paint_particles(masks, np.array([instance.score for instance in instances]), shape)


def best_ious(true, predicted):
    """For every true instance the IoU of the prediction that overlaps it most."""
    areas = np.bincount(predicted.ravel())
    ious = []
    for index, found in enumerate(ndimage.find_objects(true)):
        inside = true[found] == index + 1
        overlap = np.bincount(predicted[found][inside], minlength=1)
        overlap[0] = 0
        best = overlap.argmax()
        ious.append(overlap[best] / (inside.sum() + areas[best] - overlap[best]))
    return np.array(ious)


@pytest.mark.parametrize("seed", range(2))
def test_every_disc_is_found_once_wherever_the_seams_lie(seed):
    random = np.random.default_rng(seed)
    shape = (2500, 3000)
    diameters = np.concatenate([np.geomspace(5, 120, 60), random.uniform(200, 400, 25)])
    true = scatter_discs(random, shape, diameters)
    instances, _ = detect_in_tiles(true, perfect_detector, tile=1024, overlap=256)
    assert len(instances) == true.max()
    labels, kept = painted(instances, shape)
    assert len(kept) == true.max()
    assert best_ious(true, labels).min() > 0.95


@pytest.mark.parametrize("gap", [3, -6])
def test_a_detector_that_sees_each_tile_differently_gives_no_duplicates(gap):
    random = np.random.default_rng(0)
    shape = (700, 900)
    diameters = np.concatenate([np.geomspace(5, 50, 50), random.uniform(80, 140, 10)])
    true = scatter_discs(random, shape, diameters, gap)  # with a negative gap, discs touch and hide parts of others

    def detect(tile, reduction):
        found = perfect_detector(tile, reduction)
        boxes, masks = found.boxes, found.masks
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes = boxes + (random.normal(0, 0.03, boxes.shape) * sides).clip(-6, 6)
        masks = (masks + random.normal(0, 0.2, masks.shape)).clip(0, 1).astype(np.float32)
        return Detections(boxes.clip(0, [*tile.shape[::-1]] * 2), random.uniform(0.5, 1, len(boxes)), masks)

    labels, kept = painted(detect_in_tiles(true, detect, tile=300, overlap=75)[0], shape)
    owners = [np.bincount(true[labels == number]).argmax() for number in range(1, len(kept) + 1)]
    assert sorted(owners) == list(range(1, true.max() + 1))


def test_a_particle_larger_than_a_tile_is_put_together():
    true = np.zeros((700, 900), np.int32)
    true[300:340, 40:860] = 1  # a rod through four tiles
    ((rod,), _) = detect_in_tiles(true, perfect_detector, tile=256, overlap=64)
    np.testing.assert_allclose(tight_box(rod), (40, 300, 860, 340), atol=1)
    assert rod.mask.sum() == pytest.approx(820 * 40, rel=0.03)


def unsure_detector(view, reduction):
    """As real ones are: close up, it takes every 160 px square of a disc for a particle, and doubts it."""
    found = perfect_detector(view, reduction)
    if reduction > 1:
        return found
    squares = np.add.outer(1000 * (np.arange(view.shape[0]) // 160), np.arange(view.shape[1]) // 160) + 1
    parts = np.unique(np.where(view > 0, squares, 0), return_inverse=True)[1].reshape(view.shape)
    found = perfect_detector(parts)
    return Detections(found.boxes, 0.5 * found.scores, found.masks)


def test_a_detector_is_believed_on_large_particles_from_afar():
    true = np.zeros((2048, 2048), np.int32)
    for index, (x, y, radius) in enumerate([(500, 520, 400), (1500, 450, 350), (450, 1500, 250), (1400, 1450, 300)]):
        paint_disc(true, x, y, radius, index + 1)
    instances, _ = detect_in_tiles(true, unsure_detector, tile=512, overlap=128)
    labels, kept = painted(instances, true.shape)
    assert len(kept) == 4 and best_ious(true, labels).min() > 0.9


def test_the_looks_end_without_an_overlap_too():
    true = scatter_discs(np.random.default_rng(0), (600, 600), [20] * 30)
    assert len(detect_in_tiles(true, perfect_detector, tile=200, overlap=0)[0]) >= true.max()


def test_a_heap_of_small_particles_is_not_a_large_one():
    true = scatter_discs(np.random.default_rng(0), (1000, 1000), [40] * 250, gap=1)

    def detect(view, reduction):
        if reduction == 1:
            found = perfect_detector(view)
            return Detections(found.boxes, 0.6 * found.scores, found.masks)
        return Detections(np.array([[100.0, 100, 900, 900]]), np.array([0.99]), np.ones((1, CELLS, CELLS), np.float32))

    instances, _ = detect_in_tiles(true, detect, tile=256, overlap=64)
    assert len(painted(instances, true.shape)[1]) == true.max()


def test_touching_particles_are_not_joined():
    true = np.zeros((300, 900), np.int32)
    true[100:150, 40:440] = 1
    true[150:200, 60:860] = 2
    true[100:150, 440:840] = 3
    instances, _ = detect_in_tiles(true, perfect_detector, tile=300, overlap=100)
    assert len(instances) == 3
    assert best_ious(true, painted(instances, true.shape)[0]).min() > 0.95


def test_a_particle_on_a_larger_one_stays_its_own():
    large = (0.0, 40.0, 600.0, 260.0)
    small = (290.0, 130.0, 330.0, 170.0)

    def detect(tile, reduction):
        left = int(tile[0, 0])
        boxes = np.array([large, small]) - (left, 0, left, 0)
        boxes[:, [0, 2]] = boxes[:, [0, 2]].clip(0, tile.shape[1])
        visible = boxes[:, 2] > boxes[:, 0]
        scores, masks = np.array([0.8, 0.9]), np.ones((2, CELLS, CELLS), np.float32)
        return Detections(boxes[visible], scores[visible], masks[visible])

    columns = np.tile(np.arange(600), (300, 1))
    instances, _ = detect_in_tiles(columns, detect, tile=300, overlap=100)
    found = sorted(tight_box(instance) for instance in instances)
    np.testing.assert_allclose(found, [(0, 40, 600, 260), (290, 130, 330, 170)], atol=1)


def test_two_views_of_one_particle_give_the_better_scored():
    def detect(tile, reduction):
        left = int(tile[0, 0])
        box = np.array([[180.0 - left, 20, 220 - left + (left > 0), 60]])
        return Detections(box, np.array([0.7 + 0.001 * left]), np.ones((1, CELLS, CELLS), np.float32))

    columns = np.tile(np.arange(400), (100, 1))
    ((instance,), _) = detect_in_tiles(columns, detect, tile=256, overlap=112)
    np.testing.assert_allclose(tight_box(instance), (180, 20, 221, 60), atol=1)
    assert instance.score == pytest.approx(0.844)


def test_the_detector_sees_the_whole_of_a_small_micrograph():
    seen = []

    def detect(tile, reduction):
        seen.append(tile.shape)
        return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, CELLS, CELLS)))

    assert detect_in_tiles(np.zeros((90, 130)), detect, tile=256, overlap=64) == ([], [])
    assert seen == [(90, 130)]


@pytest.mark.parametrize(
    ("shape", "tile", "overlap"), [((100, 1000), 256, 64), ((257, 255), 256, 64), ((600, 640), 128, 32)]
)
def test_tiles_cover_everything_and_overlap_enough(shape, tile, overlap):
    boxes = list(tile_boxes(shape, tile, overlap))
    count = np.zeros(shape, int)
    for x0, y0, x1, y1 in boxes:
        assert (x1 - x0, y1 - y0) == (min(tile, shape[1]), min(tile, shape[0]))
        count[y0:y1, x0:x1] += 1
    assert count.min() == 1 if len(boxes) > 1 else (count == 1).all()
    for starts, ends in (
        ({box[0] for box in boxes}, {box[2] for box in boxes}),
        ({box[1] for box in boxes}, {box[3] for box in boxes}),
    ):
        for start, end in zip(sorted(starts)[1:], sorted(ends)[:-1], strict=True):
            assert end - start >= overlap


def test_instance_box():
    assert Instance(3, 4, np.ones((2, 5), bool), 1.0).box == (3, 4, 8, 6)
