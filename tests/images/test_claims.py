import struct

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.errors import InputError
from sempre.images import read_labels, read_micrograph
from sempre.images.label_images import read_instances
from sempre.images.volume import open_volume
from tests.fuzzing.picture_seeds import sers
from tests.images.imaris import write_ims

GREY = np.arange(24 * 36, dtype=np.uint8).reshape(24, 36)
CHANNEL = "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """Deflate packs a thousandfold at most; such a header lies."""
    bomb = tmp_path / "a.tif"
    tifffile.imwrite(bomb, np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(bomb, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[name].overwrite(20_000)
    for read in (read_micrograph, read_labels, open_volume):
        with pytest.raises(InputError, match=r"400,000,000 bytes of pixels in a file of \d+"):
            read(bomb).read(0) if read is open_volume else read(bomb)


def test_what_packs_well_is_no_bomb(tmp_path):
    nothing = np.zeros((6000, 6000), np.uint8)
    Image.fromarray(nothing).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", nothing, compression="zstd")
    for name in ("a.png", "a.tif"):
        assert read_labels(tmp_path / name).shape == nothing.shape


def test_an_mrc_that_claims_more_than_it_holds_is_refused_at_once(tmp_path):
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, 36, 24, 0x7FFFFFFF, 0)
    header[208:216] = b"MAP \x44\x44\0\0"
    (tmp_path / "a.mrc").write_bytes(bytes(header) + GREY.tobytes())
    with pytest.raises(InputError, match="is truncated: its pixels end at byte"):
        read_micrograph(tmp_path / "a.mrc")


def test_a_png_chunk_that_reaches_past_the_end_is_refused(tmp_path):
    """Pillow asks for two gigabytes to read what a text behind the pixels claims to be."""
    Image.fromarray(GREY).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    claim = struct.pack(">I4s", 0x7FFFFFFF, b"tEXt")
    (tmp_path / "a.png").write_bytes(content[:-12] + claim + content[-12:])
    with pytest.raises(InputError, match=r"its chunk 'tEXt' ends at byte 2147"):
        read_micrograph(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content + b"what programs leave behind the end")
    assert np.array_equal(read_micrograph(tmp_path / "b.png").pixels, GREY)


def test_a_ser_that_claims_more_than_it_holds_is_refused_at_once(tmp_path):
    """RosettaSciIO would take memory for all of it, element by element."""
    whole = sers()[0]
    without_rows = bytearray(whole)
    struct.pack_into("<I", without_rows, whole.index(struct.pack("<2I", 36, 24)), 0)
    for content, at, claim, reason in (
        (whole, 18, 0x7FFFFFFF, "it claims"),
        (without_rows, 18, 0x7FFFFFFF, "it claims"),
        (whole, 22, 1 << 30, "within its header"),
        (whole, 26, 0xFFFFFFFF, "it claims 120,"),  # dimensions
    ):
        damaged = bytearray(content)
        struct.pack_into("<I", damaged, at, claim)
        (tmp_path / "a.ser").write_bytes(damaged)
        with pytest.raises(InputError, match=reason):
            read_micrograph(tmp_path / "a.ser")


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/image"), h5py.SoftLink("/elsewhere")])
@pytest.mark.parametrize("place", [CHANNEL, "DataSet", "DataSetInfo/Image"])
def test_links_of_an_imaris_file_are_not_followed(tmp_path, link, place):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = GREY[None]
    write_ims(tmp_path / "a.ims", GREY[None, None])
    with h5py.File(tmp_path / "a.ims", "r+") as file:
        if "elsewhere" in str(link.path):
            file["elsewhere"] = file[place]
        del file[place]
        file[place] = link
    for read in (read_micrograph, open_volume):
        with pytest.raises(InputError, match=f"has a link at /{place}"):
            read(tmp_path / "a.ims")


def test_values_in_other_files_are_not_read(tmp_path):
    (tmp_path / "secret.raw").write_bytes(GREY.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("image", GREY.shape, "u1", external=[(str(tmp_path / "secret.raw"), 0, GREY.size)])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = GREY
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(GREY.shape, "u1")
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "image", GREY.shape)
        file.create_virtual_dataset("image", layout)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["image"] = h5py.ExternalLink("other.h5", "/image")
    for name, message in (("external", "in other files"), ("virtual", "in other files"), ("linked", "no dataset")):
        with pytest.raises(InputError, match=message):
            read_micrograph(tmp_path / f"{name}.h5")


@pytest.mark.parametrize(
    ("compression", "claimed", "filters"),
    [("gzip", 0, 0), ("gzip", 1 << 30, 0), ("gzip", 12, 512), ("gzip", 65, 1), (None, 65, 0), (None, 63, 0)],
)
def test_an_hdf5_chunk_that_cannot_be_is_refused(tmp_path, compression, claimed, filters):
    """HDF5 ends the process over one of no bytes, and over one that is longer than its pixels and not packed."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=np.zeros((16, 16), np.uint8), chunks=(8, 8), compression=compression)
        size = file["image"].id.get_chunk_info(2).size
    content, place = bytearray(path.read_bytes()), struct.pack("<3Q", 8, 0, 0)
    at = content.index(struct.pack("<2I", size, 0) + place)
    struct.pack_into("<2I", content, at, claimed, filters)
    path.write_bytes(content)
    with pytest.raises(InputError, match="part of /image has no place in the file"):
        read_micrograph(path)


def test_a_ring_of_pages_is_not_walked_for_ever(tmp_path):
    """tifffile finds a ring only when it looks for all pages at once."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, metadata=None)
    tifffile.imwrite(path, GREY[:12], append=True, metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        first, second = (page.offset for page in file.pages)
    (entries,) = struct.unpack_from("<H", content, second)
    struct.pack_into("<I", content, second + 2 + 12 * entries, first)
    path.write_bytes(content)
    volume = open_volume(path)
    assert volume.read(0).shape == volume.shape == GREY.shape


def test_ids_below_zero_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.int16) - 1)
    with pytest.raises(InputError, match="has the id -1"):
        read_labels(tmp_path / "a.tif")


def test_labels_have_two_axes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = np.zeros((0, 4), np.uint8)
    with pytest.raises(InputError):
        read_labels(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "content",
    [
        '{"size": [24], "instances": []}',
        '{"size": [24, 36, 2], "instances": []}',
        '{"size": [1e9, 1e9], "instances": []}',
        '{"size": [24, 36], "instances": [{"counts": [9223372036854775807, 9223372036854775807, 866]}]}',
        '{"size": [24, 36], "instances": [{"counts": [[864]]}]}',
        "[" * 100_000,
    ],
)
def test_run_lengths_that_cannot_be_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json"):
        read_instances(tmp_path / "a.json")
