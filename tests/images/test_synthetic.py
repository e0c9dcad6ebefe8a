from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sempre.errors import InputError
from sempre.images import instance_boxes
from sempre.images.synthetic import ARRANGEMENTS, KINDS, SUBSTRATES, FieldOptions, Microscope, render_field
from sempre.images.synthetic.detector import record
from sempre.images.synthetic.scene import Scene
from sempre.images.synthetic.solids import OUTSIDE, Capsule, Ellipsoid, Polyhedron
from sempre.images.synthetic.substrate import correlated_noise

SIZE = (160, 192)
QUIET = Microscope(
    tilt_exponent=0.6,
    edge=0.4,
    detector=0.0,
    asymmetry=0.3,
    occlusion=1.0,
    blur=0.6,
    dose=5000,
    charging=0.0,
    gradient=0.0,
)


def sphere(radius: float) -> Ellipsoid:
    return Ellipsoid((radius, radius, radius), 0.0, np.zeros(1), np.zeros(1))


def cube(half: float) -> Polyhedron:
    return Polyhedron(np.concatenate([np.eye(3), -np.eye(3)]), np.ones(6), half * np.sqrt(2))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_image():
    first, again, other = (render_field(seed, SIZE) for seed in (3, 3, 4))
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.pixel_size_nm == again.pixel_size_nm and first.kinds == again.kinds
    assert (first.pixels != other.pixels).mean() > 0.5


@pytest.mark.parametrize("seed", range(12))
def test_labels_match_the_pixels_and_ids_are_contiguous(seed):
    field = render_field(seed, SIZE)
    assert field.pixels.shape == field.labels.shape == SIZE
    assert field.pixels.dtype == np.uint8 and field.labels.dtype == np.int32
    assert np.setdiff1d(np.unique(field.labels), 0).tolist() == list(range(1, len(field.kinds) + 1))
    assert (np.bincount(field.labels.ravel())[1:] >= 12).all()
    assert field.pixel_size_nm > 0


@pytest.mark.parametrize("seed", range(12))
def test_grey_values_use_the_range_and_few_are_clipped(seed):
    pixels = render_field(seed, (256, 256)).pixels
    assert np.ptp(np.percentile(pixels, [1, 99])) > 25
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_kinds_asked_for_appear(kind):
    assert set(render_field(1, SIZE, FieldOptions(kinds=(kind,), count=20)).kinds) == {kind}


def test_every_kind_appears_over_a_set():
    assert {kind for seed in range(20) for kind in render_field(seed, SIZE).kinds} == set(KINDS)


def test_sizes_of_a_set_span_more_than_one_and_a_half_decades():
    sides = []
    for seed in range(16):
        _, boxes = instance_boxes(render_field(seed, (400, 400)).labels)
        sides.extend((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
    low, high = np.percentile(sides, [1, 99.9])
    assert np.log10(high / low) >= 1.5


def test_magnifications_show_particles_of_different_size():
    areas = [
        np.median(np.bincount(field.labels.ravel())[1:])
        for field in (
            render_field(5, (400, 400), FieldOptions(magnification=name, count=15, arrangement="dispersed"))
            for name in ("low", "medium", "high")
        )
    ]
    assert areas[0] < areas[1] < areas[2]


def test_an_empty_field_has_empty_labels_but_a_texture():
    field = render_field(2, SIZE, FieldOptions(count=0))
    assert not field.labels.any() and field.kinds == ()
    assert field.pixels.std() > 1


def test_some_fields_are_empty():
    assert any(not render_field(seed, (64, 64)).labels.any() for seed in range(60))


@pytest.mark.parametrize("name, values", [("arrangement", ARRANGEMENTS), ("substrate", SUBSTRATES)])
def test_options_change_the_field(name, values):
    fields = [render_field(8, SIZE, FieldOptions(**{name: value})) for value in values]
    assert len({field.pixels.tobytes() for field in fields}) == len(values)


def test_fixing_one_option_leaves_what_else_is_drawn_as_it_was():
    drawn, quiet = render_field(9, SIZE), render_field(9, SIZE, FieldOptions(microscope=QUIET))
    np.testing.assert_array_equal(drawn.labels, quiet.labels)
    assert drawn.labels.any() and drawn.kinds == quiet.kinds and drawn.pixel_size_nm == quiet.pixel_size_nm
    assert (drawn.pixels != quiet.pixels).mean() > 0.5


def test_particles_are_brighter_than_the_tape_and_noise_falls_with_dose():
    options = FieldOptions(kinds=("sphere",), count=6, magnification="medium", substrate="wafer", microscope=QUIET)
    clear = render_field(6, SIZE, options)
    noisy = render_field(6, SIZE, replace(options, microscope=replace(QUIET, dose=20)))
    assert clear.pixels[clear.labels > 0].mean() > clear.pixels[clear.labels == 0].mean() + 20
    np.testing.assert_array_equal(clear.labels, noisy.labels)
    tape = ndimage.binary_erosion(clear.labels == 0, iterations=8)
    graininess = [
        (image.pixels - ndimage.uniform_filter(image.pixels.astype(float), 5))[tape].std() for image in (clear, noisy)
    ]
    assert graininess[1] > 1.5 * graininess[0]


def test_charging_makes_lines_differ_and_darkens_what_is_scanned_after_a_bright_particle():
    light = np.ones((96, 128), np.float32)
    light[40:56, 40:52] = 4
    calm, charged = (
        record(light, replace(QUIET, charging=strength), np.random.default_rng(0)).astype(float) for strength in (0, 1)
    )
    before, after = (slice(42, 54), slice(20, 34)), (slice(42, 54), slice(56, 70))
    assert calm[after].mean() == pytest.approx(calm[before].mean(), abs=1)
    assert charged[after].mean() < charged[before].mean() - 5
    assert charged[:36].mean(axis=1).std() > 1.5 * calm[:36].mean(axis=1).std()


def test_a_particle_on_top_owns_the_label_where_both_are():
    scene = Scene.of_relief(np.zeros((60, 60), np.float32))
    scene.drop(sphere(20), 30, 30, 1, escape=1)
    scene.drop(sphere(6), 30, 30, 2, escape=1)
    assert scene.owner[30, 30] == 2 and scene.owner[30, 45] == 1 and scene.owner[0, 0] == 0
    assert scene.height[30, 30] == pytest.approx(40 + 12, abs=0.1)


def test_a_sphere_and_a_cube_have_their_heights_and_normals():
    x = y = np.arange(-15, 16).astype(float)
    ball = sphere(12).surface(x, y, 1)
    expected = np.sqrt(np.maximum(144 - x**2 - y[:, None] ** 2, 0))
    inside = ball.top > OUTSIDE
    np.testing.assert_array_equal(inside, expected > 0)
    np.testing.assert_allclose(ball.top[inside], expected[inside], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(ball.normal[0][inside] * 12, np.broadcast_to(x, (31, 31))[inside], atol=1e-3)

    box = cube(10).surface(x + 0.5, y + 0.5, 1)
    inside = box.top > OUTSIDE
    assert inside.sum() == 20 * 20
    np.testing.assert_allclose(box.top[inside], 10, atol=1e-4)
    np.testing.assert_allclose(box.bottom[inside], -10, atol=1e-4)
    assert not box.normal[:, inside].any()


def test_a_rod_is_as_long_and_wide_as_asked():
    x = y = np.arange(-30, 31).astype(float)
    rows, columns = np.nonzero(Capsule(50, 5, 0.0).surface(x, y, 1).top > OUTSIDE)
    assert np.ptp(columns) + 1 == pytest.approx(50, abs=1) and np.ptp(rows) + 1 == pytest.approx(10, abs=1)


def test_correlated_noise_is_standardised_and_smoother_for_a_steeper_spectrum():
    rough, smooth = (correlated_noise((96, 128), power, 1, np.random.default_rng(0)) for power in (0.5, 2.0))
    for noise in (rough, smooth):
        assert noise.mean() == pytest.approx(0, abs=1e-3) and noise.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.5 * np.abs(np.diff(rough, axis=1)).mean()


@pytest.mark.parametrize(
    "options, message",
    [
        (FieldOptions(magnification="huge"), "magnification 'huge' is unknown: choose low, medium, high"),
        (FieldOptions(kinds=("cube",)), "kind 'cube' is unknown"),
        (FieldOptions(count=-1), "count -1 is negative"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        render_field(0, SIZE, options)


def test_seeds_and_sizes_out_of_range_are_refused():
    with pytest.raises(InputError, match="seed -1 is out of range"):
        render_field(-1, SIZE)
    with pytest.raises(InputError, match="20x100 px is too small"):
        render_field(0, (100, 20))
