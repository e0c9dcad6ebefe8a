import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import sempre.segmentation.maps as module
from sempre.errors import InputError
from sempre.images.resize import resize
from sempre.metrics import aji_plus
from sempre.segmentation.decode import NOBODY, Decoding, areas_and_sums, deepest
from sempre.segmentation.maps import (
    MULTIPLE,
    DenseSettings,
    join_scales,
    predict_maps,
    scales_of,
    segment_dense,
    support,
    supported_maps,
    tile_boxes_on_grid,
)


def brightness(image: np.ndarray) -> np.ndarray:
    """A network that takes what is bright for foreground, and says how bright for its depth."""
    assert all(side % 32 == 0 for side in image.shape)
    half = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3))
    return np.stack([half, half]).astype(np.float32)


def cones(shape, discs) -> tuple[np.ndarray, np.ndarray]:
    """A micrograph of bright cones (y, x, radius), above one half inside the radius, and their labels."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    image, labels = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    for number, (centre_y, centre_x, radius) in enumerate(discs, start=1):
        height = 1 - 0.5 * np.hypot(y - centre_y, x - centre_x) / radius
        image = np.maximum(image, height.clip(0))
        labels[height > 0.5] = number
    return image.astype(np.float32), labels


DISCS = [(40, 40, 6), (60, 150, 20), (150, 90, 45), (20, 200, 3), (160, 190, 12)]


@pytest.mark.parametrize("shape", [(203, 231), (200, 230), (192, 224)])
def test_outlines_are_as_fine_as_the_micrograph(shape):
    image, true = cones(shape, DISCS)
    labels, scores = segment_dense(image, brightness, DenseSettings(scales=(1.0,)))
    assert labels.shape == shape and len(scores) == labels.max() == len(DISCS)
    assert aji_plus(true, labels) > 0.96
    assert ((scores > 0.5) & (scores <= 1)).all()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_maps_that_are_no_numbers_are_no_empty_micrograph(number):
    def broken(image: np.ndarray) -> np.ndarray:
        return np.full_like(brightness(image), number)

    with pytest.raises(InputError, match="no numbers"):
        segment_dense(cones((200, 230), DISCS)[0], broken, DenseSettings())


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_instances_are_in_px_of_the_micrograph_at_any_scale(scale):
    image, true = cones((200, 230), DISCS)
    labels, _ = segment_dense(image, brightness, DenseSettings(scales=(scale,)))
    assert labels.shape == (200, 230)
    assert aji_plus(true, labels) > 0.9


@settings(deadline=None, max_examples=20)
@given(st.integers(33, 200), st.integers(33, 200), st.sampled_from([(64, 32), (96, 32), (64, 0)]))
def test_tiles_of_a_network_that_looks_at_single_pixels_change_nothing(height, width, tiling):
    image = np.random.default_rng(height * width).random((height, width), dtype=np.float32)
    tile, overlap = tiling
    whole = predict_maps(image, brightness, DenseSettings(tile=1024))
    tiled = predict_maps(image, brightness, DenseSettings(tile=tile, overlap=overlap))
    assert whole.shape == (2, -(-height // 2), -(-width // 2))
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("shape", [(1216, 1920), (2048, 2048), (96, 3200), (1056, 1056)])
def test_tiles_look_at_little_more_than_the_image(shape):
    boxes = list(tile_boxes_on_grid(shape, 1024, 128))
    seen = np.zeros(shape, int)
    for x0, y0, x1, y1 in boxes:
        assert max(x1 - x0, y1 - y0) <= 1024 and not any(side % MULTIPLE for side in (x0, y0, x1, y1))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
    assert seen.mean() < 1.35  # tiles of 1024 px throughout: 1.8 for the first shape


def test_seams_are_blended_away():
    """A network that errs at its tile's border, as convolutions do, leaves no line there."""

    def dark_border(image):
        maps = brightness(image)
        maps[:, [0, 1, -2, -1]] = 0
        maps[:, :, [0, 1, -2, -1]] = 0
        return maps

    flat = np.full((64, 400), 0.8, np.float32)
    maps = predict_maps(flat, dark_border, DenseSettings(tile=128, overlap=64))
    assert (maps[0, 4:-4, 4:-4] > 0.7).all()


def test_flips_average_over_mirror_images():
    """Half of what a network is sure of on its left alone is left when it has looked from four sides."""

    def left_half(image):
        maps = brightness(image)
        maps[:, :, maps.shape[2] // 2 :] = 0
        return maps

    image = np.ones((64, 96), np.float32)
    maps = supported_maps(image, left_half, DenseSettings(scales=(1.0,), flips=True))
    np.testing.assert_allclose(maps, 0.5, atol=1e-6)


def test_specks_are_no_particles():
    image, _ = cones((64, 64), [(20, 20, 8), (50, 50, 1.2)])
    labels, scores = segment_dense(image, brightness, DenseSettings(scales=(1.0,)))
    assert labels.max() == len(scores) == 1


def knows_discs_of(diameter: float):
    """A network that is sure of what is bright, and of a middle only in discs that it sees about `diameter` px wide."""

    def network(image):
        maps = brightness(image)
        bright = maps[0] > 0.5
        regions, count = ndimage.label(bright)
        widths = np.sqrt(4 / np.pi * np.bincount(regions.ravel(), minlength=count + 1)) * 2
        known = np.exp(-np.abs(np.log(np.maximum(widths, 1) / diameter)))
        return np.stack([bright, bright * known[regions]]).astype(np.float32)

    return network


@pytest.mark.parametrize("radius", [8, 16, 64])
def test_a_micrograph_is_seen_at_the_scale_that_its_particles_are_known_at(radius):
    image, true = cones((256, 320), [(100, 120, radius)])
    seen = []

    def network(view):
        seen.append(view.shape)
        return knows_discs_of(32)(view)

    labels, _ = segment_dense(image, network, DenseSettings())
    assert len(seen) == 4, "at an eighth a micrograph of 256 px shows too little"
    best = max(
        scales_of(image.shape, DenseSettings().scales),
        key=lambda scale: support(predict_maps(resize(image, scale), knows_discs_of(32), DenseSettings()), Decoding())[
            0
        ],
    )
    assert best * 2 * radius == pytest.approx(32, rel=0.1)
    assert aji_plus(true, labels) > 0.85


def test_scales_that_show_too_little_are_left_out():
    scales = (0.125, 0.25, 0.5, 1.0, 2.0)
    assert scales_of((512, 512), scales) == [0.125, 0.25, 0.5, 1.0, 2.0]
    assert scales_of((100, 100), scales) == [0.5, 1.0, 2.0]
    assert scales_of((20, 20), scales) == [2.0]


def test_large_micrographs_are_enlarged_only_for_small_particles(monkeypatch):
    monkeypatch.setattr(module, "MOST_PIXELS", 300 * 300)
    for radius, enlarged in ((8, True), (60, False)):
        image, _ = cones((256, 320), [(100, 120, radius)])
        seen = []

        def network(view, seen=seen):
            seen.append(view.shape)
            return brightness(view)

        segment_dense(image, network, DenseSettings())
        assert ((512, 640) in seen) is enlarged


def test_support_is_that_of_certain_maps_with_a_middle_in_each_particle():
    mask = np.zeros((32, 32), np.float32)
    mask[4:12, 4:12] = mask[20:28, 20:28] = 1
    assert support(np.stack([mask, mask]), Decoding()) == pytest.approx((1, 2 * np.sqrt(4 / np.pi * 64)))
    assert support(np.stack([0.7 * mask, mask]), Decoding())[0] < 0.9
    half = mask.copy()
    half[20:28, 20:28] *= 0.2
    assert support(np.stack([mask, half]), Decoding())[0] == pytest.approx(0.6, abs=0.01)
    assert support(np.zeros((2, 32, 32), np.float32), Decoding()) == (0, 0)
    fragments = mask.copy()
    fragments[4:10, 4:10] = 0
    assert support(np.stack([fragments, fragments]), Decoding())[0] < 0.9


def test_what_is_improbable_or_shallow_is_no_particle():
    image, _ = cones((96, 160), [(48, 40, 20), (48, 120, 20)])
    dim = np.where(np.arange(160) < 80, 1, 0.8).astype(np.float32) * image

    def network(view):
        maps = brightness(view)
        maps[1, :, maps.shape[2] // 2 :] *= 0.7
        return maps

    def found(**least):
        return segment_dense(dim, network, DenseSettings(Decoding(**least), scales=(1.0,)))[0].max()

    assert found(least_score=0.0, least_depth=0.0) == 2
    assert found(least_score=0.63) == 1
    assert found(least_depth=0.7) == 1
    assert found(least_depth=1.0) == 0


def test_scales_are_joined_as_they_agree():
    random = np.random.default_rng(0)
    y, x = np.mgrid[:120, :160]
    height = np.maximum(1 - np.hypot(y - 60, x - 70) / 40, 0).astype(np.float32)
    true = np.stack([(height > 0).astype(np.float32), height])
    noisy = (true + random.normal(0, 0.1, true.shape).astype(np.float32)) * (height > 0)
    half = np.stack([resize(channel, 0.5) for channel in true])
    assert np.abs(join_scales(noisy, [half]) - true).mean() < 0.85 * np.abs(noisy - true).mean()
    np.testing.assert_array_equal(join_scales(noisy, [np.roll(half, 35, -1)]), noisy)
    np.testing.assert_array_equal(join_scales(noisy, []), noisy)
    empty = np.zeros_like(true)
    np.testing.assert_array_equal(join_scales(empty, [empty[:, ::2, ::2]]), empty)


@pytest.mark.parametrize("surest", [64, 128])
def test_the_scales_next_to_the_chosen_one_have_a_say(surest):
    seen = []

    def network(image):
        """Surest at one height, px; a spot that it sees there alone is false."""
        seen.append(image.shape[0])
        maps = np.zeros((2, image.shape[0] // 2, image.shape[1] // 2), np.float32)
        height, width = maps.shape[1:]
        maps[:, height // 4 : height // 2, width // 4 : width // 2] = 1.0 if image.shape[0] == surest else 0.9
        if image.shape[0] == surest:
            maps[:, -2:, -2:] = 1.0
        return maps

    settings = DenseSettings(scales=(0.5, 1.0, 2.0))
    maps = supported_maps(np.zeros((64, 64), np.float32), network, settings)
    assert seen == [64, 128]  # half of it were too few px
    assert maps.shape == (2, surest // 2, surest // 2)
    height = surest // 2
    assert maps[0, height // 3, height // 3] > 0.9 > 0.8 > maps[0, -1, -1]


def test_shallow_parts_lower_a_scales_support_whether_they_are_particles_or_not():
    y, x = np.mgrid[:60, :90]
    deep, shallow = (np.maximum(1 - np.hypot(y - 30, x - centre) / 20, 0) for centre in (30, 62))
    depth = np.maximum(deep, 0.47 * shallow).astype(np.float32)
    maps = np.stack([(depth > 0).astype(np.float32), depth])
    joined, apart = (support(maps, Decoding(marker=0.4, least_depth=least)) for least in (0.5, 0.0))
    assert joined == apart
    assert joined[0] < support(np.stack([deep > 0, deep]).astype(np.float32), Decoding(marker=0.4))[0]


def test_what_is_nobodys_ends_its_neighbour_where_they_meet():
    labels = np.ones((8, 16), np.int32)
    labels[:, 8:] = NOBODY
    large, _ = module.enlarge(labels, np.ones((8, 16), np.float32), (64, 128), Decoding())
    np.testing.assert_array_equal(large, np.repeat([[1, 0]], 64, 1).repeat(64, 0))


def test_decoding_a_few_rows_at_a_time_changes_nothing(monkeypatch):
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 5, (9, 12)), np.ones((4, 4), int)).astype(np.int32)
    probability = random.random(labels.shape, dtype=np.float32)
    for shape in ((72, 96), (70, 95), (301, 60)):
        whole, scores = module.enlarge(labels, probability, shape, Decoding())
        monkeypatch.setattr(module, "ROWS", 8)
        parts, same_scores = module.enlarge(labels, probability, shape, Decoding())
        monkeypatch.undo()
        # Pillow keeps the borders of a part in float32, so that a px on an outline may fall to the other side.
        assert (parts != whole).mean() < 1e-3
        np.testing.assert_allclose(same_scores, scores, rtol=1e-3)


def test_areas_sums_and_depths_are_those_of_scipy():
    random = np.random.default_rng(0)
    labels, values = random.integers(0, 6, (1100, 30)).astype(np.int32), random.random((1100, 30), dtype=np.float32)
    areas, sums = areas_and_sums(labels, values, 7)
    np.testing.assert_array_equal(areas, np.bincount(labels.ravel(), minlength=7))
    np.testing.assert_allclose(sums[:6], ndimage.sum(values.astype(float), labels, np.arange(6)))
    np.testing.assert_array_equal(deepest(labels, values, 7)[:6], ndimage.maximum(values, labels, np.arange(6)))
    assert areas[6] == sums[6] == 0


@pytest.mark.parametrize("shape", [(96, 128), (97, 130), (70, 64), (33, 200)])
def test_maps_of_tiles_are_those_of_the_whole_with_its_border_continued(shape):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)

    def network(view):
        return np.stack([view[::2, ::2], 1 - view[1::2, 1::2]])

    whole = predict_maps(image, network, DenseSettings(tile=256))
    tiled = predict_maps(image, network, DenseSettings(tile=64, overlap=32))
    assert tiled.shape == (2, -(-shape[0] // 2), -(-shape[1] // 2))
    np.testing.assert_allclose(tiled, whole, rtol=1e-5)
