import struct
import zlib

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.errors import InputError
from sempre.images import find_micrographs, read_micrograph
from sempre.images.read import open_picture
from tests.fuzzing import picture_seeds

GREY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 50


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32])
def test_tiff_keeps_its_type(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype))
    pixels = read_micrograph(tmp_path / "a.tif").pixels
    np.testing.assert_array_equal(pixels, GREY.astype(dtype))
    assert pixels.dtype == dtype


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    tifffile.imwrite(tmp_path / "a.tiff", GREY, compression=compression)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tiff").pixels, GREY)


def test_a_stack_gives_its_first_page(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, GREY + 1]), photometric="minisblack")
    micrograph = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(micrograph.pixels, GREY)
    assert micrograph.metadata["pages"] == 2


@pytest.mark.parametrize("suffix", ["tif", "png", "bmp"])
def test_colour_becomes_luminance(tmp_path, suffix):
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 1] = 100
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    else:
        Image.fromarray(colour).save(tmp_path / f"a.{suffix}")
    pixels = read_micrograph(tmp_path / f"a.{suffix}").pixels
    assert pixels.shape == (8, 8)
    np.testing.assert_allclose(pixels, 58.7, atol=0.5)


@pytest.mark.parametrize("suffix", ["tif", "png", "h5"])
def test_colour_is_kept_where_it_is_asked_for(tmp_path, suffix):
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate")
    elif suffix == "h5":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"] = colour
    else:
        Image.fromarray(np.dstack([colour, colour[..., 0]]), "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_micrograph(tmp_path / f"a.{suffix}", colour=True).pixels, colour)


def test_grey_read_as_colour_has_three_equal_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    pixels = read_micrograph(tmp_path / "a.tif", colour=True).pixels
    np.testing.assert_array_equal(pixels, np.dstack([GREY] * 3))


def test_equal_channels_stay_what_they_are(tmp_path):
    grey = (GREY % 256).astype(np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_micrograph(tmp_path / "a.png").pixels, grey, atol=0.01)


def test_sixteen_bit_png_and_jpeg(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.png").pixels, GREY)
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(read_micrograph(tmp_path / "a.jpg").pixels, 90, atol=1)


def test_hdf5_gives_its_first_image(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["name"] = "sample"
        file["scan/image"] = np.stack([GREY, GREY + 1])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.h5").pixels, GREY)


def test_imaris_gives_the_middle_slice_without_padding_and_its_pixel_size(tmp_path):
    volume = np.zeros((4, 32, 32), np.uint16)
    volume[:3, :20, :30] = np.stack([GREY, GREY + 1, GREY + 2])
    with h5py.File(tmp_path / "a.ims", "w") as file:
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"] = volume
        information = file.create_group("DataSetInfo/Image").attrs
        for name, value in {"X": "30", "Y": "20", "Z": "3", "ExtMin0": "0.0", "ExtMax0": "1.5"}.items():
            information[name] = np.frombuffer(value.encode(), "S1")
    micrograph = read_micrograph(tmp_path / "a.ims")
    np.testing.assert_array_equal(micrograph.pixels, GREY + 1)
    assert micrograph.pixel_size_nm == pytest.approx(50.0)


def test_mrc_through_rosettasciio(tmp_path):
    pytest.importorskip("rsciio")
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, 30, 20, 1, 2)  # columns, rows, sections, float32
    struct.pack_into("<3i3f3f3i", header, 28, 30, 20, 1, 300.0, 200.0, 1.0, 90.0, 90.0, 90.0, 1, 2, 3)
    header[208:216] = b"MAP \x44\x44\x00\x00"
    (tmp_path / "a.mrc").write_bytes(bytes(header) + GREY.astype("<f4").tobytes())
    micrograph = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(micrograph.pixels, GREY)
    assert micrograph.pixel_size_nm == pytest.approx(1.0)  # 300 Å over 30 px


def test_ser_through_rosettasciio(tmp_path):
    pytest.importorskip("rsciio")
    for content in picture_seeds.sers():  # a single image; the first of two, with 64-bit places
        (tmp_path / "a.ser").write_bytes(content)
        micrograph = read_micrograph(tmp_path / "a.ser")
        np.testing.assert_array_equal(micrograph.pixels, picture_seeds.GREY[::-1])  # stored from the lowest row on
        assert micrograph.pixel_size_nm == pytest.approx(2.5)


def test_the_pixel_size_in_each_vendors_place(tmp_path):
    fei = "[User]\nUser=a\n[Scan]\nPixelWidth=2.5e-09\nPixelHeight=2.5e-09\n"
    tifffile.imwrite(tmp_path / "fei.tif", GREY, extratags=[(34682, "s", 0, fei, True)])
    zeiss = "0\r\n0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.5 nm\r\n"
    tifffile.imwrite(tmp_path / "zeiss.tif", GREY, extratags=[(34118, "s", 0, zeiss, True)])
    tifffile.imwrite(
        tmp_path / "a.ome.tif", GREY, ome=True, metadata={"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"}
    )
    tifffile.imwrite(tmp_path / "imagej.tif", GREY, imagej=True, resolution=(0.125, 0.125), metadata={"unit": "nm"})
    tifffile.imwrite(tmp_path / "dpi.tif", GREY, resolution=(300, 300), resolutionunit="inch")
    sizes = {file.name: read_micrograph(file).pixel_size_nm for file in tmp_path.iterdir()}
    assert sizes["fei.tif"] == pytest.approx(2.5)
    assert sizes["zeiss.tif"] == pytest.approx(4.5)
    assert sizes["a.ome.tif"] == pytest.approx(250)
    assert sizes["imagej.tif"] == pytest.approx(8)
    assert sizes["dpi.tif"] is None


def test_a_huge_header_is_refused_before_memory_is_taken(tmp_path):
    def tag(code: int, value: int) -> bytes:
        return struct.pack("<HHII", code, 4, 1, value)

    tags = [tag(256, 100_000), tag(257, 100_000), tag(258, 8), tag(259, 1), tag(262, 1), tag(273, 8)]
    tags += [tag(277, 1), tag(278, 100_000), tag(279, 1)]
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4))
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 100_000, 100_000, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png + struct.pack(">II4s", zlib.crc32(png[12:]), 0, b"IDAT") + bytes(4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", (100_000, 100_000), np.uint8, chunks=(100, 100))
    for suffix in ("tif", "png", "h5"):
        with pytest.raises(InputError, match=r"100000x100000 px"):
            read_micrograph(tmp_path / f"a.{suffix}")


def test_a_huge_tile_is_refused_before_memory_is_taken(tmp_path):
    """A tile is unpacked whole, however small the page that it is of."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags["TileLength"].overwrite(2**31 - 1)
    with pytest.raises(InputError, match="claims 34,359,738,352 bytes"):
        read_micrograph(tmp_path / "a.tif")


def test_a_list_in_the_place_of_a_size_is_refused(tmp_path):
    """tifffile gives what stands there, and Python multiplies lists by numbers."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint16), extratags=[(65000, 4, 2, (64, 64), True)])
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        width, list_of_two = (file.pages.first.tags[code].offset for code in (256, 65000))
    content[width + 2 : width + 12] = content[list_of_two + 2 : list_of_two + 12]
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match="a list of numbers in the place of a size"):
        read_micrograph(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.tif", "zlib.tif", "a.png", "a.jpg", "a.h5"])
def test_a_truncated_file_is_refused(tmp_path, name):
    file = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
    if name == "a.h5":
        with h5py.File(file, "w") as target:
            target["image"] = noise
    elif name.endswith("tif"):
        tifffile.imwrite(file, noise, compression="zlib" if name == "zlib.tif" else None)
    else:
        Image.fromarray(noise).save(file)
    content = file.read_bytes()
    for share in (0.3, 0.7, 0.95):
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=name):
            read_micrograph(file)


def test_what_is_no_micrograph_is_refused(tmp_path):
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "a.docx").write_text("no image")
    with pytest.raises(InputError, match="does not exist"):
        read_micrograph(tmp_path / "missing.tif")
    with pytest.raises(InputError, match="is empty"):
        read_micrograph(tmp_path / "empty.tif")
    with pytest.raises(InputError, match="cannot be read"):
        read_micrograph(tmp_path / "text.tif")
    with pytest.raises(InputError, match=r"unknown suffix '\.docx'"):
        read_micrograph(tmp_path / "a.docx")


def test_micrographs_are_found_below_a_folder_in_order(tmp_path):
    for name in ("b/2.tif", "a.PNG", "b/1.dm4", ".hidden/c.tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in find_micrographs(tmp_path)] == [
        "a.PNG",
        "b/1.dm4",
        "b/2.tif",
    ]
    with pytest.raises(InputError, match="is not a folder"):
        find_micrographs(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no micrographs"):
        find_micrographs(tmp_path / "empty")


def test_micrographs_behind_links_to_folders_are_found_once(tmp_path):
    """A pile is often a folder of links to where microscopes write; it "held no micrographs"."""
    pile, disk = tmp_path / "pile", tmp_path / "disk"
    for name in ("pile/own/1.tif", "disk/2.tif", "disk/deep/3.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (pile / "a").symlink_to(pile / "own")
    (pile / "microscope").symlink_to(disk)
    (disk / "deep/round").symlink_to(pile)
    (disk / "gone").symlink_to(tmp_path / "nowhere")
    found = [file.relative_to(pile).as_posix() for file in find_micrographs(pile)]
    assert found == ["microscope/2.tif", "microscope/deep/3.tif", "own/1.tif"]


def test_the_label_images_of_a_labelled_set_are_no_micrographs(tmp_path):
    """Pretraining on a labelled set's folder took its label images for micrographs too."""
    for name in ("images/a", "images/deep/b", "labels/a", "labels/deep/b", "other/labels/c", "train/samples/d",
                 "train/segmaps/d"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{name}.png")

    def found(folder):
        return [path.relative_to(tmp_path).with_suffix("").as_posix() for path in find_micrographs(folder)]

    assert found(tmp_path) == ["images/a", "images/deep/b", "other/labels/c", "train/samples/d"]
    assert found(tmp_path / "labels") == ["labels/a", "labels/deep/b"], "who points at labels means them"


def test_pictures_are_read_without_touching_pillows_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)  # any other thread's
    seen = []
    for suffix in ("png", "bmp", "jpg", "gif.png"):
        Image.fromarray(np.full((40, 50), 7, np.uint8)).save(tmp_path / f"a.{suffix}", format=FORMATS.get(suffix))
        assert read_micrograph(tmp_path / f"a.{suffix}").pixels.shape == (40, 50)
        with open_picture(tmp_path / f"a.{suffix}") as picture:
            seen.append(Image.MAX_IMAGE_PIXELS)
            np.testing.assert_array_equal(np.asarray(picture.convert("L")), 7)
    assert seen == [64] * 4
    with pytest.raises(InputError, match="cannot be read"):
        (tmp_path / "b.png").write_bytes(b"no picture")
        read_micrograph(tmp_path / "b.png")


FORMATS = {"gif.png": "GIF"}
