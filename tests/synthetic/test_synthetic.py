from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sempre.errors import InputError
from sempre.images import instance_boxes
from sempre.synthetic import (
    ARRANGEMENTS,
    KINDS,
    SUBSTRATES,
    SUPPORTS,
    WIDE_ARRANGEMENTS,
    WIDE_KINDS,
    WIDE_SUBSTRATES,
    FieldOptions,
    Microscope,
    render_field,
)
from sempre.synthetic.annotations import Overlay, annotate
from sempre.synthetic.field import compressed, developed, drifted, resampled
from sempre.synthetic.microscope import Projection, record
from sempre.synthetic.options import chosen
from sempre.synthetic.scene import Scene, arranged, cluster
from sempre.synthetic.solids import OUTSIDE, Capsule, Ellipsoid, Fibre, Hollow, Polyhedron
from sempre.synthetic.supports import correlated_noise

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


# What variety "wide" adds.

TEM = FieldOptions(count=8, magnification="medium", arrangement="dispersed", microscope=QUIET, modality="tem")


def surroundings(labels: np.ndarray) -> np.ndarray:
    """The ground within a few px of particles, bool `[H, W]`."""
    near = ndimage.binary_dilation(labels > 0, iterations=9)
    return near & ~ndimage.binary_dilation(labels > 0, iterations=3)


@pytest.mark.parametrize("seed", range(0, 400, 40))
def test_wide_fields_have_contiguous_labels_and_the_same_bytes_again(seed):
    first, again = (render_field(seed, SIZE, FieldOptions(variety="wide")) for _ in range(2))
    assert first.pixels.tobytes() == again.pixels.tobytes() and first.labels.tobytes() == again.labels.tobytes()
    assert first.pixels.shape == first.labels.shape == SIZE
    assert np.setdiff1d(np.unique(first.labels), 0).tolist() == list(range(1, len(first.kinds) + 1))


def test_wide_draws_what_plain_does_not():
    drawn = [chosen(FieldOptions(variety="wide"), np.random.default_rng(seed)) for seed in range(400)]
    assert {options.modality for options in drawn} == {"sem", "tem", "stem"}
    assert {options.arrangement for options in drawn} == set(WIDE_ARRANGEMENTS)
    assert {kind for options in drawn for kind in options.kinds} == set(WIDE_KINDS)
    assert {options.substrate for options in drawn} == {*WIDE_SUBSTRATES, *SUPPORTS}
    assert 0.55 < np.mean([options.modality == "sem" for options in drawn]) < 0.75
    assert {chosen(FieldOptions(), np.random.default_rng(seed)).modality for seed in range(50)} == {"sem"}


@pytest.mark.parametrize("modality, sign", [("tem", -1), ("stem", 1)])
@pytest.mark.parametrize("seed", range(4))
def test_every_particle_is_darker_than_its_ground_in_tem_and_brighter_in_dark_field(seed, modality, sign):
    options = replace(TEM, modality=modality, substrate="film", kinds=("sphere", "polyhedron", "plate"))
    field = render_field(seed, (256, 256), options)
    assert field.labels.any()
    ground = np.median(field.pixels[surroundings(field.labels)])
    for number in range(1, field.labels.max() + 1):
        assert sign * (np.median(field.pixels[field.labels == number]) - ground) > 5


def test_where_particles_overlap_more_is_scattered_and_the_last_owns_the_label():
    projection = Projection((60, 60), 0.0, np.random.default_rng(0))
    projection.drop(sphere(16), 24, 30, 1, escape=1)
    projection.drop(sphere(16), 36, 30, 2, escape=1)
    assert projection.height[30, 30] == pytest.approx(4 * np.sqrt(16**2 - 6**2), rel=0.02)
    assert projection.mass[30, 30] > 1.5 * projection.mass[30, 20]
    assert projection.owner[30, 30] == 2 and projection.owner[30, 20] == 1 and projection.owner[0, 0] == 0


def test_a_hollow_sphere_is_paler_within_and_has_one_label():
    x = y = np.arange(-20, 21).astype(float)
    surface = Hollow(sphere(18), 0.8, 0.0).surface(x, y, 1)
    assert surface.chords()[20, 20] == pytest.approx(36 * 0.2, rel=0.01)
    assert surface.chords()[20, 20] < 0.5 * surface.chords()[20, 20 + 14]
    assert (surface.top > OUTSIDE)[20, 20]


def test_a_fibre_is_long_thin_and_in_one_piece():
    x = y = np.arange(-120, 121).astype(float)
    wire = Fibre(200, 3, 30, 10, 0.4).surface(x, y, 1).top > OUTSIDE
    assert ndimage.label(wire, np.ones((3, 3)))[1] == 1
    assert wire.sum() == pytest.approx(200 * 6, rel=0.25)


@pytest.mark.parametrize("kind", WIDE_KINDS)
@pytest.mark.parametrize("modality", ["sem", "tem"])
def test_labels_are_mostly_in_one_piece(kind, modality):
    options = FieldOptions("medium", (kind,), 4, "dispersed", modality=modality, microscope=QUIET)  # few cross
    labels = render_field(3, (320, 320), options).labels
    whole = 0
    for number in range(1, labels.max() + 1):
        pieces, _ = ndimage.label(labels == number, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        whole += sizes.max() > 0.9 * sizes.sum()
    assert labels.max() > 0 and whole >= 0.75 * labels.max()


@pytest.mark.parametrize("modality", ["sem", "tem"])
def test_an_aggregate_is_of_many_touching_spheres_of_nearly_one_size(modality):
    options = FieldOptions("low", None, 200, "aggregates", modality=modality, variety="wide")
    options = chosen(options, np.random.default_rng(0))
    places = arranged("aggregates", (448, 448), "low", 200, np.random.default_rng(1))
    assert options.kinds == ("sphere",) and len(places) == 200
    assert np.std(places[:, 2]) < 0.25 * np.mean(places[:, 2])
    gaps = np.sort(np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1)), axis=1)[:, 1]
    assert np.mean(gaps <= 1.02 * places[:, 2].mean()) > 0.9


def test_aggregates_are_open_as_soot_is():
    centres = cluster(200, 1.0, np.random.default_rng(2))
    gyration = np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert gyration > 1.3 * 0.5 * np.sqrt(3 / 5) * 200 ** (1 / 3) / 0.64 ** (1 / 3)  # of a ball packed at random


def test_bimodal_sizes_differ_by_more_than_a_decade_and_crowds_are_of_thousands():
    spans = [
        np.ptp(np.log10(arranged("bimodal", (640, 640), "low", None, np.random.default_rng(s))[:, 2]))
        for s in range(20)
    ]
    assert max(spans) > 1.5
    crowds = [arranged("crowded", (640, 640), "low", None, np.random.default_rng(s)) for s in range(20)]
    assert max(map(len, crowds)) > 2000 and all(((c[:, 2] >= 6) & (c[:, 2] <= 15)).all() for c in crowds)


@pytest.mark.parametrize("substrate, modality", [(n, "sem") for n in WIDE_SUBSTRATES] + [(n, "tem") for n in SUPPORTS])
def test_grounds_without_particles_have_no_labels(substrate, modality):
    field = render_field(5, SIZE, FieldOptions(count=0, substrate=substrate, modality=modality, variety="wide"))
    assert not field.labels.any() and field.kinds == ()


@pytest.mark.parametrize("seed", range(8))
def test_annotations_label_nothing_and_letters_leave_large_particles_whole(seed):
    blank = np.full((200, 260), 90, np.uint8)
    _, owner = annotate(blank, np.zeros(blank.shape, np.int32), 5.0, np.random.default_rng(seed))
    assert not owner.any()
    overlay = Overlay(blank)
    overlay.arrows(np.random.default_rng(seed))
    large = np.ones(blank.shape, np.int32)
    np.testing.assert_array_equal(overlay.kept(large), large)


def test_a_particle_hidden_by_ink_or_a_box_loses_what_is_hidden():
    overlay = Overlay(np.zeros((60, 60), np.uint8))
    overlay.ink.paste(255, (10, 10, 16, 16))
    overlay.boxes.paste(255, (40, 0, 60, 60))
    owner = np.zeros((60, 60), np.int32)
    owner[10:17, 10:17], owner[30:50, 30:50] = 1, 2
    kept = overlay.kept(owner)
    assert (kept == 1).sum() == 49 - 36 and (kept == 2).sum() == 20 * 10 and not kept[:, 40:].any()


def test_drift_moves_labels_with_the_pixels():
    owner = np.zeros((120, 120), np.int32)
    owner[30:90, 40:80] = 1
    pixels, moved = drifted((200 * owner).astype(np.uint8), owner, np.random.default_rng(3))
    assert (moved != owner).any()
    np.testing.assert_array_equal(moved > 0, pixels >= 100)


def test_supports_are_for_transmission_and_substrates_for_scanning():
    assert chosen(FieldOptions(substrate="lacey"), np.random.default_rng(0)).modality == "tem"
    with pytest.raises(InputError, match="substrate 'tape' is unknown: choose film"):
        render_field(0, SIZE, FieldOptions(modality="tem", substrate="tape"))
    with pytest.raises(InputError, match="modality 'afm' is unknown"):
        render_field(0, SIZE, FieldOptions(modality="afm"))


def test_a_speck_that_a_thick_particle_hides_has_no_label_in_transmission():
    projection = Projection((120, 120), 0.0, np.random.default_rng(0))
    projection.drop(sphere(50), 60, 60, 1, escape=1)
    projection.drop(sphere(3), 60, 60, 2, escape=1)
    projection.drop(sphere(3), 5, 5, 3, escape=1)
    assert set(np.unique(projection.owner)) == {0, 1, 3}


def test_pictures_lose_detail_in_print_but_stay_the_same_picture():
    random = np.random.default_rng(0)
    sharp = render_field(6, (160, 160), FieldOptions(count=8, kinds=("sphere",))).pixels
    for worse in (compressed(sharp, 25), resampled(sharp, random)):
        assert worse.shape == sharp.shape and worse.dtype == np.uint8
        assert 0.8 < np.corrcoef(worse.ravel(), sharp.ravel())[0, 1] < 1
    assert np.abs(np.diff(resampled(sharp, random).astype(int))).mean() < np.abs(np.diff(sharp.astype(int))).mean()


def test_contrast_is_clipped_or_inverted_at_times():
    sharp = render_field(6, (160, 160), FieldOptions(count=8, kinds=("sphere",))).pixels
    prints = [developed(sharp, np.random.default_rng(seed)) for seed in range(60)]
    assert any((np.isin(picture, (0, 255))).mean() > 0.05 for picture in prints)
    assert any(np.corrcoef(picture.ravel(), sharp.ravel())[0, 1] < 0 for picture in prints)
