import numpy as np
import pytest
import tifffile

from sempre.data.sources import FolderSource
from sempre.data.splits import by_sample
from sempre.data.volume_slices import SliceOptions, VolumeSource, labelled_slices, open_labelled, open_slices
from sempre.errors import InputError
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract
from sempre.images import percentile_normalise, to_uint8
from tests.images.imaris import write_ims


@pytest.fixture
def stack():
    """Five slices of two channels, `[Z, C, Y, X]`."""
    return np.random.default_rng(0).integers(0, 4000, (5, 2, 40, 50)).astype(np.uint16)


@pytest.fixture
def volumes(tmp_path, stack):
    """Two volumes with labels: an Imaris file and an OME-TIFF of as many slices."""
    for folder in ("images", "labels"):
        (tmp_path / f"set/{folder}").mkdir(parents=True)
    write_ims(tmp_path / "set/images/steel.ims", stack)
    tifffile.imwrite(tmp_path / "set/images/iron.ome.tif", stack[::-1], metadata={"axes": "ZCYX"})
    labels = np.zeros((5, 40, 50), np.uint16)
    for position in range(5):
        labels[position, 5:20, 5 + position : 20] = position + 1
    for name in ("steel", "iron"):
        tifffile.imwrite(tmp_path / f"set/labels/{name}.tif", labels)
    return tmp_path / "set"


def test_slices_are_micrographs_named_by_volume_and_number(volumes, stack):
    source = VolumeSource([volumes / "images/steel.ims", volumes / "images/iron.ome.tif"], slices=2, channel=1)
    assert source.names == ["steel_0001", "steel_0003", "iron_0001", "iron_0003"]
    assert list(by_sample(source.names)) == ["steel", "iron"]
    for index, expected in enumerate((stack[1, 1], stack[3, 1], stack[3, 1], stack[1, 1])):
        np.testing.assert_array_equal(source.read(index)[0], to_uint8(percentile_normalise(expected)))
    assert source.read(0)[1] == pytest.approx(50.0)
    assert source.sha256s[0] == source.sha256s[3], "the same slice in another file"
    assert source.sha256s[0] != source.sha256s[1]


def test_slices_are_embedded_like_files_of_the_same_pixels(volumes, stack, tmp_path):
    options = ExtractionOptions(embeddings=str(tmp_path / "embeddings"), workers=2)
    encoder = open_encoder("random:convnextv2_atto")
    (tmp_path / "files").mkdir()
    tifffile.imwrite(tmp_path / "files/slice.tif", stack[2, 0])
    files, slices = FolderSource(tmp_path / "files"), VolumeSource([volumes / "images/steel.ims"], slices=1)
    with extract(files, encoder, options) as of_files:
        expected = of_files[files.sha256s[0]].cells
    with extract(slices, encoder, options) as of_slices:
        np.testing.assert_array_equal(of_slices[slices.sha256s[0]].cells, expected)


def test_what_a_path_stands_for(volumes):
    assert len(open_slices(volumes / "images/steel.ims")) == 5
    assert len(open_slices(volumes / "images", slices=3)) == 6
    assert isinstance(open_slices(volumes / "images"), FolderSource), "the middle slice of each, as ever"
    with pytest.raises(InputError, match="slices=0 channel=1 skip=0 are of volumes"):
        open_slices(volumes / "images", channel=1)


def test_what_volumes_lack_is_named(volumes):
    files = [volumes / "images/steel.ims"]
    with pytest.raises(InputError, match=r"steel\.ims has no channel 2: it has 2 channels"):
        VolumeSource(files, channel=2)
    with pytest.raises(InputError, match=r"steel\.ims: slices=6 are more than there are: there are 5 slices"):
        VolumeSource(files, slices=6)
    tifffile.imwrite(volumes / "images/steel.tif", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(InputError, match="share a stem"):
        VolumeSource([*files, volumes / "images/steel.tif"])


def test_labelled_volumes_become_a_labelled_set(volumes, stack, tmp_path):
    labelled = labelled_slices(volumes, tmp_path / "out", slices=5)
    labelled = labelled_slices(volumes, tmp_path / "out", slices=2, channel=1)
    assert labelled.names == ["iron_0001", "iron_0003", "steel_0001", "steel_0003"]
    read = labelled.read(labelled.names.index("steel_0003"))
    assert np.array_equal(read.layers[0] > 0, np.pad(np.ones((15, 12), bool), ((5, 20), (8, 30))))
    difference = read.pixels.astype(int) - to_uint8(percentile_normalise(stack[3, 1]))
    assert np.abs(difference).max() <= 1


def test_labels_that_do_not_fit_and_a_volume_with_one_slice(volumes, tmp_path):
    tifffile.imwrite(volumes / "labels/steel.tif", np.zeros((6, 40, 50), np.uint16))
    with pytest.raises(InputError, match=r"steel\.ims is 5x40x50 but its labels in .*steel\.tif are 6x40x50"):
        labelled_slices(volumes, tmp_path / "out", slices=2)
    (volumes / "labels/steel.tif").unlink()
    with pytest.raises(InputError, match="no labels for steel"):
        labelled_slices(volumes, tmp_path / "out", slices=2)
    for file in (volumes / "images").iterdir():
        file.unlink()
    tifffile.imwrite(volumes / "images/flat.tif", np.zeros((40, 50), np.uint16))
    with pytest.raises(InputError, match=r"flat\.tif has 1 slice and slices=1 takes one: a comparison needs two"):
        labelled_slices(volumes, tmp_path / "out", slices=1)


def test_labels_may_be_the_last_channel_and_the_outermost_slices_be_left_out(tmp_path, tmp_path_factory, stack):
    """Volumes of five and of six channels, whose last is a mask and whose last but one is what is looked at."""
    mask = np.zeros((5, 1, 40, 50), np.uint16)
    for position in range(5):
        mask[position, 0, 5:20, 5 + position : 20] = 65535
    write_ims(tmp_path / "a.ims", np.concatenate([stack, stack[:, :1], mask], axis=1))
    write_ims(tmp_path / "c.ims", np.concatenate([stack, stack, stack[:, :1], mask], axis=1))
    options = SliceOptions(slices=2, channel=-2, label_channel=-1, skip=1)
    labelled = open_labelled(tmp_path, tmp_path_factory.mktemp("out"), options, (5.0, 95.0))
    assert labelled.names == ["a_0001", "a_0003", "c_0001", "c_0003"]
    read = labelled.read(1)
    assert np.array_equal(read.foreground, mask[3, 0] > 0)
    difference = read.pixels.astype(int) - to_uint8(percentile_normalise(stack[3, 0], 5, 95))
    assert np.abs(difference).max() <= 1
    with pytest.raises(InputError, match=r"skip=3 leaves -1 of the 5 slices of .*a\.ims"):
        VolumeSource([tmp_path / "a.ims"], skip=3)
    with pytest.raises(InputError, match=r"c\.ims has no channel -7: it has 6 channels"):
        VolumeSource([tmp_path / "c.ims"], channel=-7)
    with pytest.raises(InputError, match="channel=0 label_channel=-1 skip=0 are of volumes"):
        open_labelled(tmp_path, tmp_path_factory.mktemp("out"), SliceOptions(label_channel=-1))
    noise = np.random.default_rng(0).random((5, 1, 40, 50)).astype(np.float32)
    write_ims(tmp_path / "a.ims", np.concatenate([noise, noise], axis=1))
    with pytest.raises(InputError, match=r"a\.ims holds float32 pixels: a label volume has integer ids"):
        labelled_slices(tmp_path, tmp_path_factory.mktemp("out"), 1, label_channel=-1)
