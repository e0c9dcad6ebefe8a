import numpy as np
import pytest
import tifffile

from sempre.data.splits import seeded_subset
from sempre.errors import InputError
from sempre.frozen.encoder import open_encoder
from sempre.frozen.tasks import TaskOptions, make_tasks, score_backbones
from sempre.images import write_labels


@pytest.fixture
def labelled(tmp_path):
    """Ten micrographs of 64x64 px with a bright particle in the left half of each."""
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number in range(10):
        pixels = random.integers(0, 60, (64, 64), dtype=np.uint8)
        labels = np.zeros((64, 64), np.int32)
        pixels[:, :32] += 150
        labels[:, :32] = 1
        tifffile.imwrite(tmp_path / f"set/images/{number}.tif", pixels)
        write_labels(tmp_path / f"set/labels/{number}.tif", labels)
    return tmp_path / "set"


@pytest.fixture
def options(labelled, tmp_path):
    return TaskOptions(
        backbones=["intensity"], data=str(labelled), layer=1, workers=0, patches=8, embeddings=str(tmp_path / "e")
    )


def test_cells_are_drawn_half_and_half(options):
    (task,) = make_tasks(open_encoder("intensity", layer=1), options)
    assert task.name == "cells"
    assert len(task.bank) + len(task.queries) == 10 * 8
    assert task.bank_labels.mean() == 0.5
    bright = task.bank[:, 8:].sum(1) > 0.5
    np.testing.assert_array_equal(bright, task.bank_labels == 1)


def test_the_same_cells_whatever_else_is_drawn(options):
    encoder = open_encoder("intensity", layer=1)
    (whole,) = make_tasks(encoder, options)
    (again,) = make_tasks(encoder, options)
    np.testing.assert_array_equal(whole.bank, again.bank)
    options.micrographs = 2
    (few,) = make_tasks(encoder, options)
    assert len(few.queries) == 2 * 8
    rows = {row.tobytes() for row in whole.queries}
    assert all(row.tobytes() in rows for row in few.queries)


def test_images_of_subfolders(options, tmp_path):
    random = np.random.default_rng(1)
    for number in range(20):
        kind, folder = ("dark", 30) if number % 2 else ("bright", 220)
        (tmp_path / "piles" / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(folder - 30, folder + 30, (64, 64)).astype(np.uint8)
        pixels[0, :2], pixels[1, :2] = 0, 255  # so that the percentiles keep the levels apart
        pixels[:, :4] = np.array([0, 255] * 2, np.uint8)
        tifffile.imwrite(tmp_path / f"piles/{kind}/{number}.tif", pixels)
    options.data, options.images, options.pooling = "", str(tmp_path / "piles"), "mean"
    rows, read_out = score_backbones(
        options, lambda task: {"labels": len(set(task.bank_labels)), "queries": len(task.queries)}
    )
    assert read_out == {"intensity": "layer 2 of 4, 8 px"}
    assert list(rows) == ["intensity"]
    assert rows["intensity"]["images: labels"] == 2
    assert 1 <= rows["intensity"]["images: queries"] < 20


def test_nothing_to_tell_apart(options, tmp_path):
    options.data = ""
    with pytest.raises(InputError, match="there is nothing to tell apart"):
        make_tasks(open_encoder("intensity"), options)
    (tmp_path / "plain").mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / f"plain/{number}.tif", np.full((40, 40), number, np.uint8))
    options.images, options.pooling = str(tmp_path / "plain"), "mean"
    with pytest.raises(InputError, match="the images have 0 labels to learn"):
        make_tasks(open_encoder("intensity", layer=1), options)


def test_subsets():
    indices = np.arange(10, 30)
    assert len(seeded_subset(indices, 5, 0)) == 5
    np.testing.assert_array_equal(seeded_subset(indices, 5, 0), seeded_subset(indices, 5, 0))
    assert seeded_subset(indices, 0, 0) is indices
    assert seeded_subset(indices, 99, 0) is indices
