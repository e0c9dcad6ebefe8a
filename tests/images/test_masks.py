"""Masks, floats and classes in the place of label images."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from sempre.errors import InputError
from sempre.images import read_labels


def discs(count: int = 8) -> np.ndarray:
    """Discs on a grid, 200 x 400 px, each with its id."""
    y, x = np.mgrid[:200, :400]
    labels = np.zeros((200, 400), np.int32)
    for number in range(count):
        row, column = divmod(number, 4)
        labels[(y - 50 - 100 * row) ** 2 + (x - 50 - 100 * column) ** 2 < (20 + 3 * number) ** 2] = number + 1
    return labels


LABELS = discs()
INSIDE = LABELS > 0


def write(path, pixels: np.ndarray):
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels)
    return path


@pytest.mark.parametrize(
    "pixels",
    [
        LABELS.astype(np.float32),
        LABELS.astype(np.float64),
        LABELS.astype(np.float16),
        np.where(INSIDE, LABELS, np.nan).astype(np.float32),
        LABELS.astype(np.float32) + 100_000 * INSIDE,
        LABELS.astype(">f4"),
    ],
)
def test_floats_of_whole_numbers_are_ids(tmp_path, pixels):
    read = read_labels(write(tmp_path / "a.tif", pixels), components=False)
    assert len(np.unique(read)) == 9
    np.testing.assert_array_equal(read > 0, INSIDE)


@pytest.mark.parametrize("pixels", [LABELS + np.float32(0.5), LABELS / np.float32(255), np.where(INSIDE, np.inf, 0)])
def test_floats_that_are_no_ids_are_refused(tmp_path, pixels):
    with pytest.raises(InputError, match="among them: a label image has integer ids"):
        read_labels(write(tmp_path / "a.tif", np.asarray(pixels, np.float32)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    "pixels",
    [
        INSIDE.astype(np.uint8) * 255,
        INSIDE.astype(np.uint8),
        INSIDE,
        np.repeat((INSIDE.astype(np.uint8) * 255)[..., None], 3, axis=-1),
        np.stack([INSIDE.astype(np.uint8) * 200, INSIDE * np.uint8(0), INSIDE * np.uint8(9)], axis=-1),
    ],
)
def test_masks_are_refused_or_taken_apart(tmp_path, pixels, suffix):
    path = write(tmp_path / f"a{suffix}", pixels)
    with pytest.raises(InputError, match=r"is a mask: its only id, .* lies in 8 pieces"):
        read_labels(path, components=False)
    expected, count = ndimage.label(INSIDE)
    read = read_labels(path, components=True)
    assert count == len(np.unique(read)) - 1 == 8
    assert len(np.unique(np.stack([expected, read]).reshape(2, -1), axis=1).T) == 9, "the same pieces"
    assert len(np.unique(read_labels(path))) == 2, "whoever asks for the foreground takes masks as they are"


@pytest.mark.parametrize("components", [False, True])
@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (np.uint8(255) * ~INSIDE, "has the id 255 around its particles: background must be 0"),
        ((~INSIDE).astype(np.uint8), "has the id 1 around its particles"),
        (INSIDE + np.uint8(1), "has the id 1 around its particles"),
        (
            np.asarray(Image.fromarray(INSIDE.astype(np.uint8) * 255).resize((500, 260), Image.Resampling.BILINEAR)),
            "is a mask with blended edges|is a picture of shades",
        ),
    ],
)
def test_masks_of_the_background_and_smoothed_ones_are_refused(tmp_path, pixels, complaint, components):
    with pytest.raises(InputError, match=complaint):
        read_labels(write(tmp_path / "a.png", np.asarray(pixels, np.uint8)), components)


def test_classes_are_refused_and_single_pieces_told(tmp_path, capsys):
    many = np.zeros((120, 200), np.uint8)
    for number in range(60):  # squares that do not touch, of two classes
        row, column = divmod(number, 10)
        many[20 * row : 20 * row + 12, 20 * column : 20 * column + 12] = 1 + number % 2
    with pytest.raises(InputError, match="as a map of classes has"):
        read_labels(write(tmp_path / "a.png", many), components=False)
    joined = np.where(LABELS == 2, 1, LABELS).astype(np.uint8)
    read_labels(write(tmp_path / "b.png", joined), components=False)
    assert "1 of 7 particles lie in several pieces, the particle 1 in 2" in capsys.readouterr().err


def test_a_single_particle_and_slips_of_the_brush_are_no_mask(tmp_path):
    one = np.where(LABELS == 3, 255, 0).astype(np.uint8)
    one[0, :2] = 255
    np.testing.assert_array_equal(read_labels(write(tmp_path / "a.png", one), components=False), one)


def test_a_jpeg_is_refused(tmp_path):
    Image.fromarray(INSIDE.astype(np.uint8) * 255).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="is a JPEG, which changes the numbers"):
        read_labels(tmp_path / "a.jpg")
