"""Small whole files of the formats that micrographs come in, a few of each: one for every way that is read apart."""

import base64
import csv
import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import tifffile
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi

HEIGHT, WIDTH = 24, 36
GREY = (np.add.outer(np.arange(HEIGHT), 3 * np.arange(WIDTH)) + 40 * np.eye(HEIGHT, WIDTH)).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
LABELS = np.zeros((HEIGHT, WIDTH), np.uint16)
LABELS[3:9, 4:12], LABELS[12:20, 15:30] = 1, 2


def tiffs() -> list[bytes]:
    """Types, compressions, tiles, planes, palettes, stacks, and the vendors' tags."""
    palette = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    fei = "[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=2.5e-09\r\nPixelHeight=2.5e-09\r\n[EBeam]\r\nHV=5000\r\n"
    zeiss = "\r\n0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 5.000 nm\r\n"
    tescan = b"\x01\x02[MAIN]\r\nPixelSizeX=1.5e-9\r\n"
    phenom = '<FeiImage><pixelWidth unit="nm">3.5</pixelWidth></FeiImage>'
    return [
        _tiff(GREY),
        _tiff(GREY.astype(">u2"), byteorder="<"),
        _tiff(GREY.astype(np.float32) - 7, compression="lzw", predictor=True),
        _tiff(np.pad(GREY, 20).astype(np.uint16) << 4, tile=(16, 16), compression="zlib"),
        _tiff(GREY, rowsperstrip=4, compression="packbits"),
        _tiff(COLOUR, photometric="rgb", compression="jpeg"),
        _tiff(COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        _tiff(GREY, photometric="palette", colormap=palette),
        _tiff(GREY.astype(np.int32) - 99, photometric="miniswhite"),
        _tiff(GREY, bigtiff=True, compression="zstd"),
        _tiff(np.stack([GREY, GREY]), imagej=True, resolution=(0.2, 0.2), metadata={"unit": "nm", "axes": "ZYX"}),
        _tiff(np.stack([GREY] * 4).reshape(2, 2, HEIGHT, WIDTH), ome=True, metadata={"axes": "CZYX", **_OME}),
        _tiff(np.dstack([COLOUR, GREY]), photometric="separated", compression="zlib"),
        _tiff(GREY > 50, photometric="miniswhite"),
        _tiff(np.stack([GREY, GREY]), photometric="minisblack", planarconfig="separate"),
        _picture(Image.fromarray(COLOUR).convert("YCbCr"), "TIFF", compression="tiff_lzw"),
        _picture(Image.frombytes("LAB", (WIDTH, HEIGHT), COLOUR.tobytes()), "TIFF"),
        _coarse_chroma(),
        _pages((GREY[::4, ::4], {"subifds": 1, "subfiletype": 1}), (GREY, {})),
        _pages((GREY[::2, ::2], {}), (GREY, {})),
        _tiff(GREY, extratags=[(34682, 2, 0, fei, True)]),
        _tiff(GREY, extratags=[(34118, 2, 0, zeiss, True)]),
        _tiff(GREY, extratags=[(50431, 7, len(tescan), tescan, True)]),
        _tiff(GREY, extratags=[(34683, 2, 0, phenom, True)]),
    ]


def label_tiffs() -> list[bytes]:
    """Label images: ids, a palette's indices, flat colours, stacks of masks."""
    palette = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    return [
        _tiff(LABELS, compression="zlib"),
        _tiff(LABELS.astype(np.uint32) * 70_000),
        _tiff(LABELS.astype(np.uint8), photometric="palette", colormap=palette),
        _tiff(_coloured(), photometric="rgb"),
        _tiff(np.stack([LABELS == 1, LABELS == 2]).astype(np.uint8) * 255, photometric="minisblack"),
        _tiff(LABELS.astype(np.int16), tile=(16, 16)),
    ]


def pngs() -> list[bytes]:
    """Every mode, and the text that sempre's own results carry."""
    palette = Image.fromarray(COLOUR).quantize(16)
    alpha = np.dstack([COLOUR, GREY])
    return [
        _picture(Image.fromarray(GREY)),
        _picture(Image.fromarray(GREY.astype(np.uint16) << 6)),
        _picture(Image.fromarray(COLOUR)),
        _picture(Image.fromarray(alpha)),
        _picture(Image.fromarray(alpha[..., 2:])),
        _picture(palette, transparency=3),
        _picture(Image.fromarray(GREY > 50)),
        _picture(Image.fromarray(GREY), dpi=(300, 300), icc_profile=bytes(200)),
    ]


def label_pngs() -> list[bytes]:
    """Label images as PNG: ids of 8 and 16 bits, a palette's indices, flat colours."""
    indices = Image.fromarray(LABELS.astype(np.uint8), mode="P")
    indices.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    rimmed = Image.fromarray(np.where(LABELS > 0, LABELS, 255 * (GREY > 100)).astype(np.uint8), mode="P")
    rimmed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *bytes(3 * 252), 224, 224, 192])  # Pascal VOC's
    return [
        _picture(rimmed),
        _picture(Image.fromarray(np.dstack([255 + 0 * COLOUR, 255 * (LABELS > 0)]).astype(np.uint8))),
        _picture(Image.fromarray(LABELS)),
        _picture(Image.fromarray(LABELS.astype(np.uint8))),
        _picture(indices),
        _picture(Image.fromarray(_coloured())),
    ]


def jpegs() -> list[bytes]:
    """Grey, colour, CMYK, progressive, and Phenom's text behind the picture."""
    phenom = b'<pixelWidth unit="nm">3.5</pixelWidth>'
    return [
        _picture(Image.fromarray(GREY), "JPEG"),
        _picture(Image.fromarray(COLOUR), "JPEG", progressive=True),
        _picture(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
        _picture(Image.fromarray(GREY), "JPEG", restart_marker_rows=1) + phenom,
    ]


def bmps() -> list[bytes]:
    """Grey, colour, palette, one bit."""
    images = (Image.fromarray(GREY), Image.fromarray(COLOUR), Image.fromarray(COLOUR).quantize(16))
    return [_picture(image, "BMP") for image in (*images, Image.fromarray(GREY > 50))]


def hdf5s() -> list[bytes]:
    """Plain, packed, coloured and deep datasets, and what leads out of the file: links, external and virtual data."""

    def links(file: h5py.File) -> None:
        file["group/image"] = GREY
        file["soft"] = h5py.SoftLink("/group/image")
        file["outside"] = h5py.ExternalLink("elsewhere.h5", "/image")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(GREY.shape, "u1")
        layout[...] = h5py.VirtualSource("elsewhere.h5", "image", GREY.shape)
        file.create_virtual_dataset("virtual", layout)

    def external(file: h5py.File) -> None:
        file.create_dataset("external", GREY.shape, "u1", external=[("elsewhere.raw", 0, GREY.size)])

    def packed(file: h5py.File) -> None:
        file.create_dataset("image", data=GREY, chunks=(8, 8), compression="gzip", shuffle=True, fletcher32=True)

    def odd(file: h5py.File) -> None:
        file["text"] = "text"
        file["table"] = np.zeros((3, 2), [("a", "f4"), ("b", "i8")])
        file["image"] = np.stack([GREY.astype(np.float16)] * 2)
        file["zero"] = np.zeros((0, 4))

    def plain(file: h5py.File) -> None:
        file["image"] = COLOUR

    def axes(file: h5py.File) -> None:
        data = file.create_dataset("data", data=GREY[..., None], compression="gzip")
        data.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "yxc"]})
        data.dims[0].label, data.dims[1].label = "y", "x"

    def scales(file: h5py.File) -> None:
        data = file.create_dataset("intensity", data=GREY.T)
        for number, (name, size) in enumerate((("x", WIDTH), ("y", HEIGHT))):
            file[name] = np.arange(size) * 1.0
            file[name].make_scale(name)
            data.dims[number].attach_scale(file[name])
        data.attrs["element_size_um"] = np.array([0.01, 0.005, 0.0025], "f4")

    def image_class(file: h5py.File) -> None:
        file["image"] = COLOUR.transpose(2, 0, 1)
        file["image"].attrs.update({"CLASS": b"IMAGE", "INTERLACE_MODE": b"INTERLACE_PLANE"})
        file["matrix"] = GREY.T
        file["matrix"].attrs["MATLAB_class"] = b"uint8"

    def nexus(file: h5py.File) -> None:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["NX_class"], entry.attrs["signal"], entry.attrs["axes"] = "NXdata", "counts", ["y", "x"]
        file["detector"] = GREY
        entry["counts"] = h5py.SoftLink("/detector")
        entry["mask"] = GREY > 50

    return [_hdf5(fill) for fill in (plain, packed, links, virtual, external, odd, axes, nexus, scales, image_class)]


def imaris() -> list[bytes]:
    """A volume of two channels, padded to whole chunks as Imaris does; one whose data are a link to another file."""

    def volume(file: h5py.File) -> None:
        for channel in range(2):
            padded = np.pad(np.stack([GREY, GREY]), ((0, 2), (0, 8), (0, 4)))
            file[f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {channel}/Data"] = padded
        _describe(file)

    def linked(file: h5py.File) -> None:
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"] = h5py.ExternalLink("elsewhere.h5", "/image")
        _describe(file)

    return [_hdf5(volume), _hdf5(linked)]


def emds() -> list[bytes]:
    """Berkeley's EMD, a group of data and the axes that it has; Velox', frames and a Fourier transform."""

    def berkeley(file: h5py.File) -> None:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = GREY
        for number, size in enumerate(GREY.shape, start=1):
            axis = group.create_dataset(f"dim{number}", data=np.arange(size) * 2.5)
            axis.attrs["name"], axis.attrs["units"] = f"axis {number}", "[n_m]"

    def velox(file: h5py.File) -> None:
        file["Version"] = np.array([b'{"format":"Velox","version":"11"}'])
        file["Data/Image/a/Data"] = np.stack([GREY, GREY], axis=-1)
        result = {"PixelSize": {"width": "2e-9", "height": "2e-9"}, "PixelUnitX": "m", "PixelUnitY": "m"}
        text = json.dumps({"BinaryResult": result}).encode().ljust(512, b"\0")
        file["Data/Image/a/Metadata"] = np.frombuffer(text, "u1")[:, None]
        file["Data/Image/b/Data"] = np.zeros((HEIGHT, WIDTH, 1), [("realFloat", "<f4"), ("imagFloat", "<f4")])
        file.create_group("Data/SpectrumImage")

    return [_hdf5(berkeley), _hdf5(velox)]


def mrcs() -> list[bytes]:
    """Float32, uint16, big-endian, signed bytes with IMOD's stamp, 4 bits, and colours."""
    files = []
    big = (1, GREY.astype(">i2"))
    images = ((2, GREY.astype("<f4")), (6, GREY.astype("<u2")), big, (0, GREY), (101, GREY[:, ::2]), (16, COLOUR))
    for mode, pixels in images:
        header, order, stamp = bytearray(1024), "<", b"MAP \x44\x44\0\0"
        if pixels.dtype.byteorder == ">":
            order, stamp = ">", b"MAP \x11\x11\0\0"
        struct.pack_into(f"{order}10i", header, 0, WIDTH, HEIGHT, 1, mode, 0, 0, 0, WIDTH, HEIGHT, 1)
        struct.pack_into(f"{order}6f3i", header, 40, 360.0, 240.0, 1.0, 90.0, 90.0, 90.0, 1, 2, 3)
        struct.pack_into(f"{order}2i", header, 152, 1146047817, 1)
        header[208:216] = stamp
        files.append(bytes(header) + pixels.tobytes())
    return files


def dm3s() -> list[bytes]:
    """DigitalMicrograph 3: a tree of tags, in it one image with its calibration."""
    scale = [("Scale", _dm_simple(6, "<f", 0.5)), ("Origin", _dm_simple(6, "<f", 0.0)), ("Units", _dm_text("nm"))]
    data = [
        ("Calibrations", [("Dimension", [("", scale), ("", scale)])]),
        ("Data", struct.pack(">4i", 3, 20, 10, GREY.size) + GREY.tobytes()),
        ("DataType", _dm_simple(5, "<I", 6)),
        ("Dimensions", [("", _dm_simple(5, "<I", WIDTH)), ("", _dm_simple(5, "<I", HEIGHT))]),
        ("PixelDepth", _dm_simple(5, "<I", 1)),
    ]
    image = [("ImageData", data), ("ImageTags", []), ("Name", _dm_text("field"))]
    group = _dm_group([("ImageList", [("", image), ("", image)])])
    return [struct.pack(">3i", 3, len(group) + 4, 1) + group + bytes(8)]


def sers() -> list[bytes]:
    """TIA's series: one image with 32-bit places, and two with 64-bit ones."""
    return [_ser(1, 528), _ser(2, 544)]


def cocos() -> list[bytes]:
    """Polygons, run lengths of both kinds, a crowd, an image without instances."""
    counts = [100, 50, HEIGHT * WIDTH - 150]
    shapes = (
        [[2, 2, 20, 2, 20, 15]],
        {"size": [HEIGHT, WIDTH], "counts": counts},
        [[1.5, 1, 9, 1, 9, 9], [0, 0, 3, 3]],
    )
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "iscrowd": int(n == 3), "segmentation": shape}
        for n, shape in enumerate((*shapes, {"size": [HEIGHT, WIDTH], "counts": "S3m0"}))
    ]
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2)]
    return [json.dumps({"images": images, "annotations": annotations, "categories": []}).encode()]


def run_lengths() -> list[bytes]:
    """Overlapping instances with scores, as tools/score.py reads them."""
    instances = [{"counts": [10, 20, HEIGHT * WIDTH - 30], "score": 0.5}, {"counts": [0, 5, HEIGHT * WIDTH - 5]}]
    return [json.dumps({"size": [HEIGHT, WIDTH], "instances": instances}).encode()]


def labelme() -> list[bytes]:
    """Shapes of every kind, a group of two polygons, and a mask as a PNG in base64."""
    points = {"polygon": [[2, 2], [20, 2.5], [20, 15]], "rectangle": [[3, 3], [9, 9]], "circle": [[20, 12], [23, 12]]}
    points |= {"linestrip": [[1, 1], [5, 5]], "point": [[7, 7]], "rotation": [[1, 1], [4, 2], [3, 5], [0, 4]]}
    shapes: list[dict] = [{"label": "p", "points": at, "shape_type": kind} for kind, at in points.items()]
    shapes += [{"label": "p", "points": [[x, 16], [x + 4, 16], [x, 20]], "group_id": 1} for x in (2, 9)]
    png = base64.b64encode(_picture(Image.fromarray(np.eye(6) > 0))).decode()
    shapes.append({"label": "p", "shape_type": "mask", "points": [[25, 3], [31, 9]], "mask": png})
    content = {"version": "5.4.1", "imagePath": "1.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
    return [json.dumps(content).encode()]


def vias() -> list[bytes]:
    """VGG Image Annotator: a project of version 2, regions by their numbers as in version 1, and version 3."""
    shapes = [
        {"name": "polygon", "all_points_x": [2, 20, 20], "all_points_y": [2, 2, 15]},
        {"name": "rect", "x": 3, "y": 3, "width": 6, "height": 7},
        {"name": "circle", "cx": 20, "cy": 12, "r": 3.5},
        {"name": "ellipse", "cx": 9, "cy": 16, "rx": 4, "ry": 2, "theta": 0.5},
        {"name": "point", "cx": 1, "cy": 1},
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
    second = {
        "_via_settings": {},
        "_via_img_metadata": {"1.png9": {"filename": "1.png", "size": 9, "regions": regions}},
    }
    first = {"1.png9": {"filename": "1.png", "regions": dict(enumerate(regions))}}
    kinds = ([7, 2, 2, 20, 2, 20, 15], [2, 3, 3, 6, 7], [3, 20, 12, 3.5], [4, 9, 16, 4, 2], [1, 1, 1])
    third = {
        "file": {"1": {"fid": "1", "fname": "1.png"}},
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {f"1_{number}": {"vid": "1", "xy": xy} for number, xy in enumerate(kinds)},
    }
    return [json.dumps(content).encode() for content in (second, first, third)]


def via_tables() -> list[bytes]:
    """VGG Image Annotator's CSV, with the names of versions 1 and 2."""
    rows = []
    for name in ("filename", "#filename"):
        file = io.StringIO()
        table = csv.writer(file)
        table.writerow([name, "file_size", "region_count", "region_id", "region_shape_attributes"])
        for number, shape in enumerate(
            ({"name": "rect", "x": 3, "y": 3, "width": 6, "height": 7}, {"name": "circle", "cx": 20, "cy": 12, "r": 3})
        ):
            table.writerow(["1.png", 9, 2, number, json.dumps(shape)])
        rows.append(file.getvalue().encode())
    return rows


def cvats() -> list[bytes]:
    """CVAT for images: every shape, turned ones, run lengths."""
    shapes = (
        '<polygon label="p" points="2.0,2.0;20.0,2.0;20.0,15.0"/><box label="p" xtl="3" ytl="3" xbr="9" ybr="10"/>'
        '<box label="p" xtl="3" ytl="13" xbr="9" ybr="20" rotation="30.0"/><points label="p" points="1,1;5,5"/>'
        '<ellipse label="p" cx="20" cy="12" rx="4" ry="2" rotation="12"/><tag label="p"/>'
        '<mask label="p" rle="3, 4, 5, 8" left="25" top="3" width="5" height="4"/>'
    )
    image = f'<image id="0" name="1.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return [f"{head}<annotations><version>1.1</version>{image}</annotations>".encode()]


def roi_zips() -> list[bytes]:
    """ImageJ's ROIs as its manager zips them: polygon, rectangle, oval, freehand, sub-pixels, and a line."""
    outline = np.array([(2, 2), (20, 2), (20, 15), (9, 9)])
    rois = [ImagejRoi.frompoints(outline), ImagejRoi.frompoints(outline + 0.25)]
    for kind in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        roi = ImagejRoi.frompoints([(0, 0)])
        roi.roitype, roi.left, roi.top, roi.right, roi.bottom, roi.n_coordinates = kind, 3, 4, 12, 14, 0
        rois.append(roi)
    line = ImagejRoi.frompoints(outline)
    line.roitype = ROI_TYPE.POLYLINE
    contents = [roi.tobytes() for roi in (*rois, line)]
    archives = []
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", packing) as archive:
            for number, content in enumerate(contents):
                archive.writestr(zipfile.ZipInfo(f"{number}.roi"), content)
        archives.append(file.getvalue())
    return archives


def rois() -> list[bytes]:
    """One ROI a file."""
    with zipfile.ZipFile(io.BytesIO(roi_zips()[0])) as archive:
        return [archive.read(name) for name in archive.namelist()]


def vocs() -> list[bytes]:
    """Pascal VOC's boxes."""
    sides = "<xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>14.5</ymax>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>1</depth></size>"
    named = f"<filename>1.png</filename>{size}"
    return [
        f"<annotation>{named}{f'<object><name>p</name><bndbox>{sides}</bndbox></object>' * 2}</annotation>".encode()
    ]


def sidecars() -> list[bytes]:
    """What JEOL's and Hitachi's microscopes write beside a picture."""
    jeol = f"$CM_FORMAT JEOL\r\n$CM_FULL_SIZE {WIDTH} {HEIGHT}\r\n$$SM_MICRON_BAR 20\r\n$$SM_MICRON_MARKER 1um\r\n"
    hitachi = f"[SemImageFile]\r\nDataSize={WIDTH}x{HEIGHT}\r\nPixelSize=2.5\r\n"
    return [jeol.encode(), hitachi.encode("utf-16")]


# With a UUID of its own, for tifffile would draw another one for each file.
_OME = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "UUID": "00000000-0000-0000-0000-000000000001"}


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _pages(*pages: tuple[np.ndarray, dict]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for pixels, options in pages:
            writer.write(pixels, photometric="minisblack", metadata=None, **options)
    return file.getvalue()


def _coarse_chroma() -> bytes:
    """YCbCr that is not packed, with one chroma value for 2 x 2 px."""
    units = np.resize(GREY, (HEIGHT // 2, WIDTH // 2, 6))
    tags = [(256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 6), (273, 4, 1, 240)]
    tags += [(277, 3, 1, 3), (278, 4, 1, HEIGHT), (279, 4, 1, units.size), (530, 3, 2, 2 | 2 << 16)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return head.ljust(200, b"\0") + struct.pack("<3H", 8, 8, 8).ljust(40, b"\0") + units.tobytes()


def _picture(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _hdf5(fill: Callable[[h5py.File], None]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def _describe(file: h5py.File) -> None:
    information = file.create_group("DataSetInfo/Image").attrs
    for name, value in {"X": WIDTH, "Y": HEIGHT, "Z": 2, "ExtMin0": 0.0, "ExtMax0": 1.8}.items():
        information[name] = np.frombuffer(str(value).encode(), "S1")


def _coloured() -> np.ndarray:
    return np.array([(0, 0, 0), (200, 30, 30), (30, 200, 30)], np.uint8)[LABELS]


def _ser(count: int, version: int) -> bytes:
    """A series of `count` images; its version says how wide places in the file are."""
    place = "<I" if version <= 528 else "<Q"
    axis = struct.pack("<I2d2I", count, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
    image = struct.pack("<2dI2dI", 0.0, 2.5e-9, 0, 0.0, 2.5e-9, 0) + struct.pack("<H2I", 2, WIDTH, HEIGHT)
    image += GREY.astype("<u2").tobytes()
    places_at = 22 + struct.calcsize(place) + 4 + len(axis)
    first = places_at + 2 * count * struct.calcsize(place)
    size = len(image) + 8  # with the tag behind it
    places = [first + number * size for number in range(count)]
    places += [at + len(image) for at in places]
    header = struct.pack("<3H4I", 0x4949, 0x0197, version, 0x4122, 0x4152, count, count)
    header += struct.pack(place, places_at) + struct.pack("<I", 1)
    listed = b"".join(struct.pack(place, at) for at in places)
    return header + axis + listed + (image + struct.pack("<2HI", 0x4152, 0, 10**9)) * count


def _dm_group(tags: list[tuple[str, Any]]) -> bytes:
    entries = []
    for name, value in tags:
        kind, body = (20, _dm_group(value)) if isinstance(value, list) else (21, b"%%%%" + value)
        entries.append(struct.pack(">BH", kind, len(name)) + name.encode() + body)
    return struct.pack(">BBi", 0, 0, len(tags)) + b"".join(entries)


def _dm_simple(kind: int, layout: str, value: float) -> bytes:
    return struct.pack(">2i", 1, kind) + struct.pack(layout, value)


def _dm_text(text: str) -> bytes:
    return struct.pack(">4i", 3, 20, 4, len(text)) + text.encode("utf-16-le")
