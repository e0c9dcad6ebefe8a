"""Scenes of other laboratories: what they show, and that labels are what a person would outline."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sempre.errors import InputError
from sempre.synthetic import COMPOSITES, SPECIMENS, STRUCTURED, FieldOptions, Microscope, render_field
from sempre.synthetic.composites import any_grain
from sempre.synthetic.contacts import Joined, Seam, packed_places, walls_between
from sempre.synthetic.heaps import lit_enough, outlined_by_eye
from sempre.synthetic.microscope import charged, overexposed
from sempre.synthetic.solids import OUTSIDE, Ellipsoid

SIZE = (256, 288)
QUIET = Microscope(
    tilt_exponent=0.6,
    edge=0.3,
    detector=0.0,
    asymmetry=0.3,
    occlusion=0.5,
    blur=0.6,
    dose=5000,
    charging=0.0,
    gradient=0.0,
)


def shown(specimen: str, seed: int, **further):
    return render_field(seed, SIZE, FieldOptions(specimen=specimen, **further))


def neighbours(labels: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of instances that share a border."""
    pairs = set()
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        meet = (one != other) & (one > 0) & (other > 0)
        pairs |= set(map(tuple, np.sort(np.stack([one[meet], other[meet]], axis=1), axis=1).tolist()))
    return pairs


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_a_specimen_has_contiguous_labels_and_the_same_bytes_again(specimen):
    for seed in range(3):
        first, again = (shown(specimen, seed, variety=variety) for variety in ("wide", "wide"))
        assert first.pixels.tobytes() == again.pixels.tobytes() and first.labels.tobytes() == again.labels.tobytes()
        assert first.pixels.shape == first.labels.shape == SIZE and first.pixels.dtype == np.uint8
        assert np.setdiff1d(np.unique(first.labels), 0).tolist() == list(range(1, len(first.kinds) + 1))
        assert first.pixels.std() > 3


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_its_ground_alone_has_no_labels(specimen):
    field = shown(specimen, 1, count=0)
    assert not field.labels.any() and field.kinds == () and field.pixels.std() > 1


@pytest.mark.parametrize("specimen", ["facets", "sintered"])
def test_particles_in_contact_touch_and_are_of_one_tone(specimen):
    touching, tones = [], []
    for seed in range(5):
        labels = shown(specimen, seed).labels
        touching.append(len({number for pair in neighbours(labels) for number in pair}) / labels.max())
        quiet = render_field(seed, SIZE, FieldOptions(specimen=specimen, microscope=QUIET))
        means = ndimage.mean(quiet.pixels, quiet.labels, np.unique(quiet.labels)[1:])
        tones.append(np.std(means) / np.mean(means))
    assert np.median(touching) > 0.9 and np.median(tones) < 0.2


def test_a_threshold_does_not_part_particles_in_contact():
    found = []
    for seed in range(8):
        field = shown("sintered", seed)
        _, pieces = ndimage.label(ndimage.binary_opening(field.labels > 0))
        found.append(pieces / field.labels.max())
    assert np.median(found) < 0.2


@pytest.mark.parametrize("specimen, kind", [("secondary", "secondary"), ("droplets", "satellited")])
def test_large_grains_are_single_instances_and_some_are_cut_by_the_border(specimen, kind):
    widths, whole, cut = [], [], 0
    for seed in range(12):
        field = shown(specimen, seed)
        for number, (rows, columns) in enumerate(ndimage.find_objects(field.labels), start=1):
            own = field.labels[rows, columns] == number
            if field.kinds[number - 1] != kind or max(own.shape) < 0.12 * min(SIZE):
                continue
            pieces = np.bincount(ndimage.label(own, np.ones((3, 3)))[0].ravel())[1:]
            whole.append(pieces.max() > 0.75 * own.sum())  # others may lie across it
            inside = rows.start > 0 and columns.start > 0 and rows.stop < SIZE[0] and columns.stop < SIZE[1]
            cut += not inside
            if inside:
                widths.append(max(own.shape) / min(SIZE))
    assert 0.15 < np.median(widths) < 0.5 and max(widths) > 0.3 and cut >= 12
    assert np.mean(whole) > 0.95


@pytest.mark.parametrize("kind", COMPOSITES)
def test_a_composite_is_one_connected_solid_that_bulges_out_of_its_body(kind):
    for seed in range(6):
        solid = any_grain(kind, 90, np.random.default_rng(seed))
        reach = int(solid.radius) + 2
        grid = np.arange(-reach, reach + 1).astype(float)
        surface = solid.surface(grid, grid, 1.0)
        there = surface.top > OUTSIDE
        pieces = np.bincount(ndimage.label(there, np.ones((3, 3)))[0].ravel())[1:]
        assert pieces.max() > 0.97 * there.sum()
        assert 0.4 * np.pi / 4 * 90**2 < there.sum() < 2.2 * np.pi / 4 * 90**2
        assert (surface.bottom[there] <= surface.top[there]).all()
        assert ((surface.normal**2).sum(axis=0)[there] <= 1.0001).all()
        part = solid.surface(grid[20:60], grid[30:50], 1.0)
        np.testing.assert_allclose(part.top, surface.top[30:50, 20:60], atol=1e-3)


def test_dust_is_labelled_beside_and_on_large_grains():
    spans, on = [], 0
    for seed in range(8):
        labels = shown("dusted", seed).labels
        areas = np.bincount(labels.ravel())[1:]
        spans.append(np.sqrt(areas.max() / np.median(areas)))
        large = labels == areas.argmax() + 1
        filled = ndimage.binary_fill_holes(large)
        on += len(np.setdiff1d(np.unique(labels[filled]), [0, areas.argmax() + 1])) > 0
    assert np.median(spans) > 4 and on >= 3


def test_powder_over_powder_leaves_little_ground_and_darkens_what_is_below():
    covered, darker = [], []
    for seed in range(5):
        field = render_field(seed, SIZE, FieldOptions(specimen="powder", microscope=QUIET))
        covered.append((field.labels > 0).mean())
        means = ndimage.mean(field.pixels, field.labels, np.unique(field.labels)[1:])
        darker.append(np.percentile(means, 90) / max(np.percentile(means, 10), 1))
    assert np.median(covered) > 0.6 and np.median(darker) > 1.5


@pytest.mark.parametrize("ground", STRUCTURED)
def test_structured_grounds_are_no_particles_and_can_lie_below_some(ground):
    bare = render_field(4, SIZE, FieldOptions(substrate=ground, count=0, microscope=QUIET))
    assert not bare.labels.any() and bare.pixels.std() > 4
    strewn = render_field(4, SIZE, FieldOptions(substrate=ground, count=10, arrangement="dispersed"))
    assert strewn.labels.any()


def test_precipitates_differ_from_their_matrix_and_lie_in_an_array():
    for specimen in ("cuboids", "precipitates", "islands"):
        contrasts = []
        for seed in range(6):
            field = render_field(seed, SIZE, FieldOptions(specimen=specimen, microscope=QUIET))
            if not field.labels.any():
                continue
            grey, there = field.pixels.astype(float), field.labels > 0
            contrasts.append(abs(np.median(grey[there]) - np.median(grey[~there])) / grey.std())
        assert np.median(contrasts) > 0.7
    numbers = [shown("cuboids", seed).labels.max() for seed in range(6)]
    assert np.median(numbers) > 30


def test_a_charged_particle_glows_darkens_its_surroundings_and_streaks_its_lines():
    light = np.ones((160, 200), np.float32)
    owner = np.zeros((160, 200), np.int32)
    owner[70:90, 60:80] = 1
    changed = [charged(light, owner, np.random.default_rng(seed)) for seed in range(24)]
    assert all(np.isfinite(image).all() and (image >= 0).all() for image in changed)
    ring = ndimage.binary_dilation(owner > 0, iterations=8) & (owner == 0)
    assert min(image[ring].mean() for image in changed) < 0.8 and max(image[ring].mean() for image in changed) > 1.1
    lines = [image[70:90, 90:].mean(axis=1).std() for image in changed]
    assert max(lines) > 0.05
    np.testing.assert_array_equal(charged(light, np.zeros_like(owner), np.random.default_rng(0)), light)


def test_overexposed_particles_are_white_in_part_and_the_ground_is_not():
    grey = np.full((100, 100), 60, np.uint8)
    owner = np.zeros((100, 100), np.int32)
    owner[20:60, 20:60] = 1
    grey[20:60, 20:60] = np.arange(40) + 140
    white = overexposed(grey, owner, np.random.default_rng(1)) >= 250
    assert 0.02 < white[owner > 0].mean() < 0.9 and not white[owner == 0].any()


def test_two_joined_spheres_part_along_their_common_plane():
    places = np.array([[0.0, 0.0, 40.0], [30.0, 0.0, 40.0]])
    walls = walls_between(places, 0.0, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(walls[0], [[1, 0, 15, 0]])
    np.testing.assert_allclose(walls[1], [[-1, 0, 15, 0]])
    sphere = Ellipsoid((20, 20, 20), 0.0, np.zeros(1), np.zeros(1))
    grid = np.arange(-25, 26).astype(float)
    surface = Joined(sphere, walls[0], Seam(0.0, 2.0, 3.0, 0.0)).surface(grid, grid, 1.0)
    there = surface.top > OUTSIDE
    assert there[25, : 25 + 15].sum() == 15 + 19 and not there[:, 25 + 15 :].any()
    assert surface.top[25, 25] == pytest.approx(20 - 2 * np.exp(-5), abs=1e-3)
    assert surface.top[25, 39] < np.sqrt(20**2 - 14**2) - 1


def test_packed_places_overlap_by_no_more_than_is_allowed():
    random = np.random.default_rng(0)
    places = packed_places((200, 200), np.full(200, 20.0), 0.2, None, random)
    apart = np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 0.8 * 20 - 1e-6 and 80 < len(places) < 200
    assert np.median(apart.min(axis=1)) < 20


def test_a_share_of_wide_fields_shows_specimens_and_plain_ones_never_do():
    kinds = {"secondary", "satellited", "precipitate", "island"}
    wide = [kinds & set(render_field(seed, (96, 96), FieldOptions(variety="wide")).kinds) for seed in range(120)]
    plain = [kinds & set(render_field(seed, (96, 96)).kinds) for seed in range(40)]
    assert 0.08 < np.mean([bool(some) for some in wide]) < 0.35 and not any(plain)


def test_slivers_between_others_and_what_lies_in_the_dark_have_no_label():
    owner = np.zeros((60, 60), np.int32)
    owner[5:55, 5:28], owner[5:55, 28:30], owner[5:55, 30:55] = 1, 2, 3
    assert set(np.unique(outlined_by_eye(owner))) == {0, 1, 3}
    owner[5:55, 24:34] = 2
    assert set(np.unique(outlined_by_eye(owner))) == {0, 1, 2, 3}
    shade = np.where(owner == 3, np.float32(0.05), np.float32(0.6))
    assert set(np.unique(lit_enough(owner, shade))) == {0, 1, 2}


def test_options_that_a_specimen_decides_itself_are_refused():
    for wrong in ({"kinds": ("rod",)}, {"arrangement": "packed"}, {"modality": "tem"}, {"count": 3}):
        with pytest.raises(InputError, match="specimen facets decides about kinds"):
            render_field(0, SIZE, replace(FieldOptions(specimen="facets"), **wrong))
    with pytest.raises(InputError, match="specimen 'soot' is unknown: choose facets"):
        render_field(0, SIZE, FieldOptions(specimen="soot"))
