import tracemalloc

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempre.errors import InputError
from sempre.images.volume import evenly_spaced, open_volume
from tests.fuzzing import picture_seeds
from tests.images.imaris import write_ims

STACK = np.arange(5 * 2 * 8 * 9, dtype=np.uint16).reshape(5, 2, 8, 9)  # [Z, C, Y, X]


@pytest.mark.parametrize("kind", ["ims", "ome", "compressed ome", "imagej"])
def test_slices_and_channels(tmp_path, kind):
    path = tmp_path / ("a.ims" if kind == "ims" else "a.ome.tif" if "ome" in kind else "a.tif")
    if kind == "ims":
        write_ims(path, STACK)
    elif kind == "imagej":
        metadata = {"axes": "ZCYX", "unit": "nm", "spacing": 200.0}
        tifffile.imwrite(path, STACK, imagej=True, resolution=(0.02, 0.02), metadata=metadata)
    else:
        metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.05, "PhysicalSizeXUnit": "µm", "PhysicalSizeZ": 0.2}
        tifffile.imwrite(path, STACK, metadata=metadata, compression="zlib" if "compressed" in kind else None)
    volume = open_volume(path)
    assert (volume.slices, volume.channels, volume.shape) == (5, 2, (8, 9))
    assert volume.pixel_size_nm == pytest.approx(50.0)
    assert volume.slice_distance_nm == pytest.approx(200.0)
    for position in range(5):
        for channel in range(2):
            np.testing.assert_array_equal(volume.read(position, channel), STACK[position, channel])


@pytest.mark.parametrize("writer", ["tifffile", "tifffile without description", "pages", "pillow", "time series"])
def test_any_multi_page_tiff_is_a_volume_of_one_channel(tmp_path, writer):
    path, stack = tmp_path / "a.tif", STACK[:, 0].astype(np.uint8)
    if writer == "tifffile":
        tifffile.imwrite(path, stack)
    elif writer == "tifffile without description":
        tifffile.imwrite(path, stack, metadata=None)
    elif writer == "time series":
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TYX"})
    elif writer == "pages":
        with tifffile.TiffWriter(path) as file:
            for page in stack:
                file.write(page, contiguous=False, metadata=None)
    else:
        first, *rest = (Image.fromarray(page) for page in stack)
        first.save(path, save_all=True, append_images=rest)
    volume = open_volume(path)
    assert (volume.slices, volume.channels) == (5, 1)
    np.testing.assert_array_equal(np.stack([volume.read(position) for position in range(5)]), stack)


def test_an_imagej_stack_of_more_than_4_gb_which_describes_its_first_page_alone(tmp_path):
    stack = STACK[:, 0]
    description = "ImageJ=1.53\nimages=5\nslices=5\n"
    tifffile.imwrite(tmp_path / "a.tif", stack[0], description=description, metadata=None)
    with (tmp_path / "a.tif").open("ab") as file:
        file.write(stack[1:].tobytes())
    volume = open_volume(tmp_path / "a.tif")
    assert volume.slices == 5
    np.testing.assert_array_equal(np.stack([volume.read(position) for position in range(5)]), stack)


def test_colours_are_no_channels(tmp_path):
    colours = np.zeros((4, 8, 9, 3), np.uint8)
    colours[..., 1] = 100
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.slices, volume.channels) == (4, 1)
    assert (volume.read(3) == 59).all(), "luminance"


@pytest.mark.parametrize("kind", ["mrc", "mrc of bytes", "h5", "h5 along the last axis", "netcdf", "dm3"])
def test_stacks_of_other_formats_are_volumes_of_one_channel(tmp_path, kind):
    stack = STACK[:, 0] if "bytes" not in kind else (STACK[:, 0] % 100).astype(np.int8)
    path = tmp_path / f"a.{kind.split()[0] if kind != 'netcdf' else 'h5'}"
    if kind.startswith("mrc"):
        with pytest.importorskip("mrcfile").new(path) as file:
            file.set_data(stack)
            file.voxel_size = (500.0, 500.0, 2000.0)  # Å
    elif kind == "netcdf":
        with h5py.File(path, "w") as file:
            data = file.create_dataset("intensity", data=stack)
            for number, name in enumerate(("depth", "y", "x")):
                file[name] = np.arange(stack.shape[number]) * 1.0
                file[name].make_scale(name)
                data.dims[number].attach_scale(file[name])
    elif kind == "dm3":
        pytest.importorskip("rsciio")
        path.write_bytes(picture_seeds.dm3s()[0])
        stack = np.stack([picture_seeds.GREY])
    else:
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", data=np.moveaxis(stack, 0, -1) if "last" in kind else stack)
            data.dims[2 if "last" in kind else 0].label = "z"
            data.dims[1 if "last" in kind else 2].label, data.dims[0 if "last" in kind else 1].label = "x", "y"
    volume = open_volume(path)
    assert (volume.slices, volume.channels, volume.shape) == (len(stack), 1, stack.shape[1:])
    read = np.stack([volume.read(position) for position in range(len(stack))])
    np.testing.assert_array_equal(read, stack)
    if kind.startswith("mrc"):
        assert (volume.pixel_size_nm, volume.slice_distance_nm) == pytest.approx((50.0, 200.0))
    with pytest.raises(InputError, match=rf"has no slice {len(stack)}: it has {len(stack)} slice"):
        volume.read(len(stack))


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_picture_is_a_volume_of_one_slice(tmp_path, name):
    picture = STACK[0, 0].astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / name)
    volume = open_volume(tmp_path / name)
    assert (volume.slices, volume.channels) == (1, 1)
    np.testing.assert_array_equal(volume.read(0), picture)
    with pytest.raises(InputError, match="there is one slice, take slices=1"):
        evenly_spaced(volume.slices, 2)


def test_a_channel_or_slice_that_is_not_there(tmp_path):
    write_ims(tmp_path / "a.ims", STACK)
    volume = open_volume(tmp_path / "a.ims")
    with pytest.raises(InputError, match=r"a\.ims has no channel 2: it has 2 channels, counted from 0"):
        volume.read(0, 2)
    with pytest.raises(InputError, match=r"a\.ims has no slice 5: it has 5 slices"):
        volume.read(5)
    tifffile.imwrite(tmp_path / "a.tif", STACK[:, 0])
    with pytest.raises(InputError, match=r"a\.tif has no channel 1: it has 1 channel, counted"):
        open_volume(tmp_path / "a.tif").read(0, 1)


def test_damaged_files(tmp_path):
    write_ims(tmp_path / "a.ims", STACK)
    (tmp_path / "cut.ims").write_bytes((tmp_path / "a.ims").read_bytes()[:1000])
    tifffile.imwrite(tmp_path / "a.tif", STACK[:, 0], metadata=None)
    (tmp_path / "cut.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cut\.ims cannot be read"):
        open_volume(tmp_path / "cut.ims")
    with pytest.raises(InputError, match=r"cut\.tif"):
        open_volume(tmp_path / "cut.tif").read(4)
    with pytest.raises(InputError, match="does not exist"):
        open_volume(tmp_path / "none.ims")


def test_a_slice_too_large_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "a.ims", "w") as file:
        file.create_dataset("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data", (3, 40_000, 40_000), "u1")
        file.create_group("DataSetInfo/Image")
    with pytest.raises(InputError, match="40000x40000 px"):
        open_volume(tmp_path / "a.ims")


def test_one_slice_is_in_memory_at_a_time(tmp_path):
    stack = np.zeros((64, 256, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib")
    volume = open_volume(tmp_path / "a.tif")
    tracemalloc.start()
    for position in range(64):
        volume.read(position)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * stack[0].nbytes


@given(st.integers(1, 400).flatmap(lambda slices: st.tuples(st.just(slices), st.integers(1, slices))))
def test_evenly_spaced_slices_are_the_middles_of_equal_parts(sizes):
    slices, count = sizes
    chosen = evenly_spaced(slices, count)
    assert len(chosen) == count
    assert chosen == sorted(set(chosen))
    for part, position in enumerate(chosen):
        assert position <= (part + 0.5) * slices / count < position + 1
    assert chosen != list(range(slices)) or count == slices
    assert evenly_spaced(slices, 1) == [slices // 2]


def test_too_many_or_no_slices():
    with pytest.raises(InputError, match="slices=9 are more than there are: there are 5 slices, take slices=5 or less"):
        evenly_spaced(5, 9)
    with pytest.raises(InputError, match="slices=0 is too few"):
        evenly_spaced(5, 0)
