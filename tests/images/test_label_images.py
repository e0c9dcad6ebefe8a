import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from sempre.errors import InputError
from sempre.images import read_labels, write_labels
from sempre.synthetic import FieldOptions, render_field

IDS = np.repeat(np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4), 10, 0), 10, 1)  # flat squares, 0 the first


@pytest.mark.parametrize(("largest", "dtype"), [(7, np.uint16), (65_535, np.uint16), (65_536, np.uint32)])
def test_they_take_sixteen_bit_while_they_can(tmp_path, largest, dtype):
    labels = np.zeros((20, 30), np.int32)
    labels[3, 4], labels[5, 6] = 1, largest
    write_labels(tmp_path / "a.tif", labels)
    assert tifffile.imread(tmp_path / "a.tif").dtype == dtype
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_grey_values_are_no_labels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 0.5, np.float32))
    with pytest.raises(InputError, match="integer ids"):
        read_labels(tmp_path / "a.tif")


def colours(count: int) -> np.ndarray:
    """Distinct colours uint8 `[count, 3]`, black first, some of one luminance."""
    found = np.random.default_rng(0).permutation(np.argwhere(np.ones((6, 6, 6))))[:count] * 51
    found[0] = 0
    return found.astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_indices_of_a_palette_are_the_ids(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        table = np.zeros((3, 256), np.uint16)
        table[:, :12] = colours(12).T.astype(np.uint16) * 257
        tifffile.imwrite(path, IDS, photometric="palette", colormap=table)
    else:
        image = Image.fromarray(IDS, mode="P")
        image.putpalette(colours(12).tobytes())
        image.save(path)
    np.testing.assert_array_equal(read_labels(path), IDS)


def test_an_inverted_scale_inverts_no_ids(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IDS, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), IDS)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_each_colour_is_an_id_and_black_the_background(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    picture = colours(12)[IDS]
    Image.fromarray(picture).save(path) if suffix == ".png" else tifffile.imwrite(path, picture, photometric="rgb")
    labels = read_labels(path)
    assert len(np.unique(labels)) == 12
    for number in range(12):
        assert len(np.unique(labels[number == IDS])) == 1
    assert (labels[IDS == 0] == 0).all()


def test_without_black_the_commonest_colour_is_the_background(tmp_path):
    picture = np.full((40, 40, 3), 255, np.uint8)
    picture[5:15, 5:15], picture[20:30, 20:30] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(picture).save(tmp_path / "a.png")
    labels = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(labels > 0, (picture != 255).any(2))
    assert len(np.unique(labels)) == 3


def test_a_coloured_micrograph_is_refused(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="picture of shades"):
        read_labels(tmp_path / "a.png")


def test_a_stack_holds_a_particle_a_page(tmp_path):
    masks = [np.where(number == IDS, np.uint8(255), np.uint8(0)) for number in range(1, 12)]
    tifffile.imwrite(tmp_path / "a.tif", np.stack(masks), photometric="minisblack")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), IDS)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([IDS, IDS]), photometric="minisblack")
    with pytest.raises(InputError, match=r"page 1 of .*b\.tif is no mask"):
        read_labels(tmp_path / "b.tif")


SHADES = {
    "micrograph": lambda field: field.pixels,
    "probabilities": lambda field: np.rint(255 * ndimage.gaussian_filter((field.labels > 0).astype(float), 2)),
    "depths": lambda field: np.rint(10 * ndimage.distance_transform_edt(field.labels > 0)),
}


@pytest.mark.parametrize("kind", SHADES)
def test_a_grey_picture_is_refused_by_name(tmp_path, kind):
    field = render_field(1, (256, 256), FieldOptions(magnification="low", count=150, arrangement="dispersed"))
    Image.fromarray(SHADES[kind](field).clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png is a picture of shades"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("arrangement", ["dispersed", "packed"])
def test_numbers_far_above_the_particles_of_a_part_are_read(tmp_path, arrangement):
    options = FieldOptions(magnification="low", count=400, arrangement=arrangement)
    labels = render_field(2, (256, 256), options).labels
    scattered = np.where(labels > 0, labels * 97 % 4001 + 50_000, 0)  # a part of a large volume
    write_labels(tmp_path / "a.tif", scattered)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), scattered)


def test_a_mask_and_a_map_of_classes_are_read(tmp_path):
    speckle = np.random.default_rng(0).integers(0, 4, (64, 64)).astype(np.uint8)
    for name, picture in (("mask", np.where(speckle > 1, 255, 0)), ("classes", speckle)):
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_labels(tmp_path / f"{name}.png"), picture)


VOC = [
    (0, 0, 0),
    (128, 0, 0),
    (0, 128, 0),
    (128, 128, 0),
    (0, 0, 128),
    (128, 0, 128),
    (0, 128, 128),
]  # VOCcode's labelcolormap
VOID = (224, 224, 192)


def squares_with_rims() -> tuple[np.ndarray, np.ndarray]:
    """Four particles, and the same with the rims of 255 that Pascal VOC draws around them."""
    ids = np.zeros((60, 80), np.uint8)
    for number, (y, x) in enumerate(((6, 6), (6, 40), (36, 6), (36, 40)), start=1):
        ids[y : y + 14, x : x + 20] = number
    rims = ndimage.binary_dilation(ids > 0, iterations=2) & (ids == 0)
    return ids, np.where(rims, 255, ids).astype(np.uint8)


@pytest.mark.parametrize("kind", ["palette", "colours", "colours and alpha"])
def test_rims_of_pascal_voc_are_background(tmp_path, kind):
    ids, rimmed = squares_with_rims()
    table = np.zeros((256, 3), np.uint8)
    table[: len(VOC)], table[255] = VOC, VOID
    if kind == "palette":
        image = Image.fromarray(rimmed, mode="P")
        image.putpalette(table.tobytes())
    else:
        image = Image.fromarray(table[rimmed]).convert("RGBA" if "alpha" in kind else "RGB")
    image.save(tmp_path / "a.png")
    read = read_labels(tmp_path / "a.png", components=False)
    np.testing.assert_array_equal(read > 0, ids > 0)
    assert len(np.unique(read)) == 5
    assert all(len(np.unique(read[ids == number])) == 1 for number in range(1, 5))


def test_rims_around_a_class_of_pascal_voc_leave_a_mask(tmp_path):
    ids, rimmed = squares_with_rims()
    table = np.zeros((256, 3), np.uint8)
    table[: len(VOC)], table[255] = VOC, VOID
    image = Image.fromarray(np.where((rimmed > 0) & (rimmed < 255), 1, rimmed), mode="P")
    image.putpalette(table.tobytes())
    image.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a mask: its only id, 1, lies in 4 pieces.*components=true"):
        read_labels(tmp_path / "a.png", components=False)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", components=True) > 0, ids > 0)


def test_255_of_another_palette_is_an_id(tmp_path):
    ids, _ = squares_with_rims()
    ids[ids == 4] = 255
    table = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    image = Image.fromarray(ids, mode="P")
    image.putpalette(table.tobytes())
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", components=False), ids)


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (10, 10, 10)])
def test_transparent_pixels_are_background(tmp_path, colour):
    ids, _ = squares_with_rims()
    painted = np.dstack([np.full((*ids.shape, 3), colour, np.uint8), np.where(ids > 0, 255, 0).astype(np.uint8)])
    Image.fromarray(painted).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", components=True) > 0, ids > 0)
    with pytest.raises(InputError, match="lies in 4 pieces"):
        read_labels(tmp_path / "a.png", components=False)


@pytest.mark.parametrize("particles", [2, 9, 40])
def test_an_id_around_the_particles_is_refused(tmp_path, particles):
    labels = np.ones((120, 120), np.uint16)
    for number in range(particles):
        y, x = divmod(number, 7)
        labels[3 + 17 * y : 13 + 17 * y, 3 + 17 * x : 13 + 17 * x] = number + 2
    tifffile.imwrite(tmp_path / "a.tif", labels)
    for components in (False, True):
        with pytest.raises(InputError, match=r"a\.tif has the id 1 around its particles: background must be 0"):
            read_labels(tmp_path / "a.tif", components=components)


def test_grains_that_fill_a_picture_are_read(tmp_path):
    labels = np.ones((60, 90), np.uint16)
    labels[:20], labels[:, 70:] = 2, 3  # the grain 1 holds half of the border
    tifffile.imwrite(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif", components=False), labels)


def test_a_suffix_that_no_label_image_has_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", IDS)
    with pytest.raises(InputError, match=r"a\.npz has the suffix '\.npz'"):
        read_labels(tmp_path / "a.npz")
