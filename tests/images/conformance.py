"""One table of what files hold and what is read of them: a row a variant, with pixels and size that are known without
sempre's readers. `docs/formats.md` is written from it: python -m tests.images.conformance
"""

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from PIL import Image

from tests.fuzzing import picture_seeds
from tests.images.imaris import write_ims

H, W = 40, 56
y, x = np.mgrid[:H, :W]
GREY = (40 + 2 * x + y + 60 * ((x - 20) ** 2 + (y - 15) ** 2 < 80)).astype(np.uint8)
OTHER = np.ascontiguousarray(255 - GREY[::-1])
DEEP = GREY.astype(np.uint16) * 211
COLOUR = np.stack([GREY, OTHER, GREY[:, ::-1]], axis=-1)
CMYK = np.dstack([COLOUR, 255 - GREY])
BITS = GREY > 110
SMALL = np.asarray(Image.fromarray(GREY).resize((W // 4, H // 4), Image.Resampling.BOX))
SQUARES = 3  # px: a JPEG's error


@dataclass(frozen=True)
class Variant:
    """A file: `write(path)` makes it and returns the grey values that must be read, or what a refusal must say."""

    format: str
    name: str  # what is special about it
    suffix: str
    write: Callable[[Path], Any]
    size: tuple[float, float] | None = None  # nm per px along x and y
    within: float = 0.0  # grey levels that pixels may differ by
    source: str = ""  # where the size stands
    page: int | None = None
    pages: int = 1

    @property
    def id(self) -> str:
        return f"{self.format}: {self.name}"


VARIANTS: list[Variant] = []


def add(format: str, name: str, suffix: str, write: Callable[[Path], Any], **expected: Any) -> None:
    VARIANTS.append(Variant(format, name, suffix, write, **expected))


def luminance(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").convert("L"))


def by_pillow(path: Path) -> np.ndarray:
    """The reference for colour models: Pillow."""
    with Image.open(path) as image:
        return luminance(image)


def tiff(pixels: np.ndarray, want: Any = None, **options: Any) -> Callable[[Path], Any]:
    """Written by tifffile; what is wanted is the pixels themselves, or Pillow's reading."""

    def write(path: Path) -> Any:
        tifffile.imwrite(path, pixels, **{"metadata": None, **options})
        return by_pillow(path) if callable(want) else pixels if want is None else want

    return write


def pillow(image: Image.Image, want: Any, **options: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> Any:
        image.save(path, **options)
        return by_pillow(path) if callable(want) else want

    return write


def pages(*written: tuple[np.ndarray, dict], want: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> Any:
        with tifffile.TiffWriter(path) as file:
            for pixels, options in written:
                file.write(pixels, **{"metadata": None, "photometric": "minisblack", **options})
        return want

    return write


# TIFF: numbers

for kind in ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"):
    for order, said in (("<", "little-endian"), (">", "big-endian")):
        stored = (GREY.astype(np.int64) - (100 if kind[0] != "u" else 0)).clip(-128, 127 if kind == "i1" else 255)
        values = stored.astype(order + kind)
        add("TIFF", f"{values.dtype.name}, {said}", ".tif", tiff(values, byteorder=order, photometric="minisblack"))
for compression in ("zlib", "lzw", "packbits", "zstd", "lzma", "jpeg2000"):
    add("TIFF", f"packed by {compression}", ".tif", tiff(DEEP, compression=compression))
add("TIFF", "deflated differences", ".tif", tiff(DEEP, compression="zlib", predictor=True))
add("TIFF", "JPEG", ".tif", tiff(GREY, by_pillow, compression="jpeg"), within=1)
add("TIFF", "tiles", ".tif", tiff(DEEP, tile=(16, 16), compression="zlib"))
add("TIFF", "strips of 7 rows", ".tif", tiff(DEEP, rowsperstrip=7))
add("TIFF", "BigTIFF", ".tiff", tiff(DEEP, bigtiff=True))

# TIFF: colour models


def ycbcr_420(path: Path) -> np.ndarray:
    """Uncompressed YCbCr with one chroma value for 2 x 2 px, as TIFF 6.0 lays it out."""
    planes = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    luma = planes[..., 0].reshape(H // 2, 2, W // 2, 2).transpose(0, 2, 1, 3).reshape(H // 2, W // 2, 4)
    units = np.dstack([luma, planes[::2, ::2, 1:]]).astype(np.uint8)
    tags = [(256, 4, 1, W), (257, 4, 1, H), (259, 3, 1, 1), (262, 3, 1, 6), (273, 4, 1, 400), (277, 3, 1, 3)]
    tags += [(278, 4, 1, H), (279, 4, 1, units.size), (530, 3, 2, 2 | 2 << 16)]
    bits = (258, 3, 3, 300)
    tags = sorted([*tags, bits])
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    content = bytearray(400 + units.size)
    content[: len(head)], content[300:306], content[400:] = head, struct.pack("<3H", 8, 8, 8), units.tobytes()
    path.write_bytes(content)
    planes = np.dstack([planes[..., 0], planes[::2, ::2, 1:].repeat(2, axis=0).repeat(2, axis=1)])
    return luminance(Image.frombytes("YCbCr", (W, H), planes.tobytes()))


def lab_tiff(photometric: int, deep: bool) -> Callable[[Path], np.ndarray]:
    def write(path: Path) -> np.ndarray:
        stored = lab()
        if photometric == 9:
            stored = stored ^ np.array([0, 0x80, 0x80], np.uint8)
        values = stored.astype(np.uint16) << 8 if deep else stored
        tifffile.imwrite(path, values, photometric="rgb", metadata=None)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages.first.tags["PhotometricInterpretation"].overwrite(photometric)
        size = (W, H)
        return luminance(Image.frombytes("LAB", size, lab().tobytes(), "raw", "LAB"))

    return write


def lab() -> np.ndarray:
    """CIE L*a*b* `[H, W, 3]`, a and b signed."""
    return np.dstack([GREY, (x - 20).astype(np.int8).view(np.uint8), (15 - y).astype(np.int8).view(np.uint8)])


def relabelled(pixels: np.ndarray, model: int, want: Any, **options: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> Any:
        tifffile.imwrite(path, pixels, **{"metadata": None, **options})
        with tifffile.TiffFile(path, mode="r+") as file:
            for page in file.pages:
                page.tags["PhotometricInterpretation"].overwrite(model)
        return want

    return write


add("TIFF", "1 bit, 0 is black", ".tif", tiff(BITS, BITS, photometric="minisblack"))
add("TIFF", "1 bit, 0 is white", ".tif", tiff(~BITS, BITS, photometric="miniswhite"))
add("TIFF", "1 bit, 0 is white, packed", ".tif", tiff(~BITS, BITS, photometric="miniswhite", compression="packbits"))
for compression in ("group3", "group4", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
    add("TIFF", f"1 bit by Pillow, {compression}", ".tif", pillow(Image.fromarray(BITS), BITS, compression=compression))
add("TIFF", "8 bits, 0 is white", ".tif", tiff(255 - GREY, GREY, photometric="miniswhite"))
add("TIFF", "16 bits, 0 is white", ".tif", tiff(65535 - DEEP, DEEP, photometric="miniswhite"))
add("TIFF", "16 bits big-endian, 0 is white", ".tif", tiff(65535 - DEEP, DEEP, photometric="miniswhite", byteorder=">"))
add(
    "TIFF",
    "signed 8 bits, 0 is white",
    ".tif",
    tiff(
        (127 - GREY.astype(int)).clip(-128).astype("i1"),
        (GREY.astype(int) - 128).clip(max=127),
        photometric="miniswhite",
    ),
)
add("TIFF", "float, 0 is white", ".tif", tiff(-GREY.astype("f4"), GREY, photometric="miniswhite"))
add("TIFF", "RGB", ".tif", tiff(COLOUR, by_pillow, photometric="rgb"), within=1)
add(
    "TIFF",
    "RGB in planes",
    ".tif",
    tiff(COLOUR.transpose(2, 0, 1), luminance(Image.fromarray(COLOUR)), photometric="rgb", planarconfig="separate"),
    within=1,
)
add(
    "TIFF",
    "RGB and alpha",
    ".tif",
    tiff(
        np.dstack([COLOUR, OTHER]), luminance(Image.fromarray(COLOUR)), photometric="rgb", extrasamples=["unassalpha"]
    ),
    within=1,
)
add(
    "TIFF",
    "RGB and two more samples",
    ".tif",
    tiff(
        np.dstack([COLOUR, OTHER, OTHER]),
        luminance(Image.fromarray(COLOUR)),
        photometric="rgb",
        extrasamples=["unspecified"] * 2,
    ),
    within=1,
)
add("TIFF", "RGB of 16 bits, all grey", ".tif", tiff(np.dstack([DEEP] * 3), DEEP, photometric="rgb"))
add(
    "TIFF",
    "RGB as JPEG with coarse chroma",
    ".tif",
    tiff(COLOUR, by_pillow, photometric="rgb", compression="jpeg", subsampling=(2, 2)),
    within=SQUARES,
)
add(
    "TIFF",
    "grey and alpha",
    ".tif",
    tiff(np.dstack([GREY, OTHER]), GREY, photometric="minisblack", extrasamples=["unassalpha"]),
)
add(
    "TIFF",
    "grey of three channels: the first",
    ".tif",
    tiff(
        np.stack([GREY, OTHER, SMALL.mean().astype("u1") + 0 * GREY]),
        GREY,
        photometric="minisblack",
        planarconfig="separate",
    ),
    pages=3,
)
add("TIFF", "CMYK", ".tif", tiff(CMYK, by_pillow, photometric="separated"), within=1)
add(
    "TIFF",
    "CMYK, black ink alone",
    ".tif",
    tiff(np.dstack([0 * COLOUR, 255 - GREY]), GREY, photometric="separated", compression="zlib"),
    within=1,
)
add(
    "TIFF",
    "CMYK without black ink",
    ".tif",
    tiff(np.dstack([255 - COLOUR, 0 * GREY]), luminance(Image.fromarray(COLOUR)), photometric="separated"),
    within=1,
)
add(
    "TIFF",
    "CMYK by Pillow, LZW",
    ".tif",
    pillow(Image.fromarray(COLOUR).convert("CMYK"), by_pillow, compression="tiff_lzw"),
    within=1,
)
add(
    "TIFF",
    "CMYK in planes",
    ".tif",
    tiff(
        CMYK.transpose(2, 0, 1),
        luminance(Image.fromarray(CMYK, mode="CMYK")),
        photometric="separated",
        planarconfig="separate",
    ),
    within=1,
)
add("TIFF", "CMYK in tiles", ".tif", tiff(CMYK, by_pillow, photometric="separated", tile=(16, 16)), within=1)
add(
    "TIFF",
    "CMYK of 16 bits",
    ".tif",
    tiff(
        CMYK.astype("u2") * 257,
        luminance(Image.fromarray(CMYK, mode="CMYK")).astype("i4") * 257,
        photometric="separated",
    ),
    within=300,
)
add(
    "TIFF",
    "CMYK and one more sample",
    ".tif",
    tiff(
        np.dstack([CMYK, OTHER]),
        luminance(Image.fromarray(CMYK, mode="CMYK")),
        photometric="separated",
        extrasamples=["unspecified"],
    ),
    within=1,
)
add(
    "TIFF",
    "CMYK and alpha",
    ".tif",
    tiff(
        np.dstack([CMYK, OTHER]),
        luminance(Image.fromarray(CMYK, mode="CMYK")),
        photometric="separated",
        extrasamples=["unassalpha"],
    ),
    within=1,
)
add("TIFF", "CMYK as JPEG", ".tif", tiff(CMYK, by_pillow, photometric="separated", compression="jpeg"), within=SQUARES)
add(
    "TIFF",
    "CMYK, its inks named",
    ".tif",
    tiff(CMYK, by_pillow, photometric="separated", extratags=[(332, 3, 1, 1, True), (334, 3, 1, 4, True)]),
    within=1,
)
add(
    "TIFF",
    "inks other than CMYK",
    ".tif",
    tiff(CMYK, "inks other than CMYK", photometric="separated", extratags=[(332, 3, 1, 2, True)]),
)
add(
    "TIFF",
    "CMYK whose scale is turned round",
    ".tif",
    tiff(CMYK, "turned round", photometric="separated", extratags=[(336, 1, 2, (255, 0), True)]),
)
add("TIFF", "CIE L*a*b*", ".tif", lab_tiff(8, deep=False), within=1)
add(
    "TIFF",
    "CIE L*a*b* by Pillow",
    ".tif",
    pillow(Image.frombytes("LAB", (W, H), lab().tobytes(), "raw", "LAB"), by_pillow),
    within=1,
)
add("TIFF", "CIE L*a*b* of 16 bits", ".tif", lab_tiff(8, deep=True), within=1)
add("TIFF", "ICC L*a*b*", ".tif", lab_tiff(9, deep=False), within=1)
add("TIFF", "YCbCr", ".tif", pillow(Image.fromarray(COLOUR).convert("YCbCr"), by_pillow), within=2)
add(
    "TIFF",
    "YCbCr, LZW",
    ".tif",
    pillow(Image.fromarray(COLOUR).convert("YCbCr"), by_pillow, compression="tiff_lzw"),
    within=2,
)
add("TIFF", "YCbCr with coarse chroma, not packed", ".tif", ycbcr_420, within=2)
add(
    "TIFF",
    "YCbCr as JPEG with coarse chroma",
    ".tif",
    pillow(Image.fromarray(COLOUR).convert("YCbCr"), by_pillow, compression="jpeg"),
    within=SQUARES,
)
RAMP = np.stack([np.arange(256, dtype="u2")[::-1] * 257] * 3)
RAINBOW = np.stack([np.roll(np.arange(256, dtype="u2"), shift) * 257 for shift in (0, 40, 90)])
add("TIFF", "palette", ".tif", tiff(GREY, by_pillow, photometric="palette", colormap=RAINBOW), within=1)
add("TIFF", "palette that inverts", ".tif", tiff(GREY, 255 - GREY, photometric="palette", colormap=RAMP))
add("TIFF", "palette of 8-bit numbers", ".tif", tiff(GREY, 255 - GREY, photometric="palette", colormap=RAMP // 257))
add(
    "TIFF",
    "palette of 16-bit numbers",
    ".tif",
    tiff(GREY, RAMP[0][GREY] // 2 + 1, photometric="palette", colormap=RAMP // 2 + 1),
)
add(
    "TIFF",
    "palette and alpha",
    ".tif",
    relabelled(
        np.dstack([GREY, OTHER]),
        3,
        255 - GREY,
        photometric="minisblack",
        extrasamples=["unassalpha"],
        extratags=[(320, 3, 768, tuple(RAMP.ravel().tolist()), True)],
    ),
)
add(
    "TIFF",
    "palette of 65,536 colours",
    ".tif",
    tiff(DEEP, 65535 - DEEP, photometric="palette", colormap=np.stack([np.arange(65536, dtype="u2")[::-1]] * 3)),
)
add("TIFF", "palette by Pillow", ".tif", pillow(Image.fromarray(COLOUR).quantize(16), by_pillow), within=1)
add("TIFF", "complex numbers", ".tif", tiff(np.fft.fft2(GREY).astype("c8"), "complex numbers"))
add("TIFF", "complex numbers of 128 bits", ".tif", tiff(np.fft.fft2(GREY), "complex numbers"))
add("TIFF", "colour filter array", ".tif", relabelled(GREY, 32803, "CFA", photometric="minisblack"))
add("TIFF", "LogLuv", ".tif", relabelled(COLOUR, 32845, "LOGLUV", photometric="rgb"))
add("TIFF", "transparency mask alone", ".tif", relabelled(GREY, 4, "transparency mask", photometric="minisblack"))
add("TIFF", "4 px wide", ".tif", tiff(GREY[:, :4], "no micrograph", photometric="minisblack"))

# TIFF: which picture


def mask_first(path: Path) -> np.ndarray:
    pages((255 * BITS.astype("u1"), {"subfiletype": 1}), (GREY, {}), want=GREY)(path)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["NewSubfileType"].overwrite(4)
    return GREY


add(
    "TIFF",
    "thumbnail first, by NewSubfileType",
    ".tif",
    pages((SMALL, {"subfiletype": 1}), (GREY, {"subfiletype": 0}), want=GREY),
)
add(
    "TIFF",
    "thumbnail first, by SubfileType",
    ".tif",
    pages((SMALL, {"extratags": [(255, 3, 1, 2, True)]}), (GREY, {}), want=GREY),
)
add("TIFF", "thumbnail first, not marked", ".tif", pages((SMALL, {}), (GREY, {}), want=GREY))
add(
    "TIFF",
    "thumbnail first in colour, not marked",
    ".tif",
    pages((np.dstack([SMALL] * 3), {"photometric": "rgb"}), (DEEP, {}), want=DEEP),
)
NOISY = (GREY // 2 + np.random.default_rng(0).integers(0, 60, (H, W))).astype(np.uint8)
add("TIFF", "half-sized copy first, thinned out", ".tif", pages((NOISY[::2, ::2], {}), (NOISY, {}), want=NOISY))
add("TIFF", "thumbnail first, inverted", ".tif", pages((255 - SMALL, {}), (GREY, {}), want=GREY))
add("TIFF", "thumbnail behind, not marked", ".tif", pages((GREY, {}), (SMALL, {}), want=GREY))
add(
    "TIFF",
    "thumbnails between pages",
    ".tif",
    pages((GREY, {}), (SMALL, {"subfiletype": 1}), (OTHER, {}), (SMALL, {"subfiletype": 1}), want=OTHER),
    page=2,
    pages=2,
)
add(
    "TIFF",
    "preview with the picture in a SubIFD",
    ".tif",
    pages((SMALL, {"subifds": 1, "subfiletype": 1}), (GREY, {}), want=GREY),
)
add(
    "TIFF",
    "pyramid in SubIFDs",
    ".tif",
    pages((GREY, {"subifds": 2}), (GREY[::2, ::2], {"subfiletype": 1}), (SMALL, {"subfiletype": 1}), want=GREY),
)
add(
    "TIFF",
    "OME pyramid",
    ".ome.tif",
    pages(
        (GREY, {"subifds": 1, "metadata": {"axes": "YX", "PhysicalSizeX": 2.5, "PhysicalSizeXUnit": "nm"}}),
        (GREY[::2, ::2], {"subfiletype": 1}),
        want=GREY,
    ),
    size=(2.5, 2.5),
    source="OME",
)
add(
    "TIFF",
    "slide with thumbnail, label and macro",
    ".tif",
    pages(
        (GREY, {"description": "Aperio Image Library v12\r\n56x40"}),
        (SMALL, {"description": "Aperio Image Library v12\r\n56x40 -> 14x10"}),
        (OTHER[:30, :20], {"description": "Aperio Image Library v12\r\nlabel 20x30"}),
        (OTHER[:20], {"description": "Aperio Image Library v12\r\nmacro 56x20"}),
        want=GREY,
    ),
)
add(
    "TIFF",
    "label of a slide first",
    ".tif",
    pages((OTHER[:30, :20], {"extratags": [(285, 2, 0, "Label", True)]}), (GREY, {}), want=GREY),
)
add("TIFF", "transparency mask first", ".tif", mask_first)
add("TIFF", "one page, marked as a copy", ".tif", pages((GREY, {"subfiletype": 1}), want=GREY))
add("TIFF", "stack: its first page", ".tif", tiff(np.stack([GREY, OTHER]), GREY, photometric="minisblack"), pages=2)
add("TIFF", "stack: page 2", ".tif", tiff(np.stack([GREY, OTHER]), OTHER, photometric="minisblack"), page=2, pages=2)
add(
    "TIFF",
    "stack: page 3 is not there",
    ".tif",
    tiff(np.stack([GREY, OTHER]), "no page 3: it has 2 pages", photometric="minisblack"),
    page=3,
    pages=2,
)
add(
    "TIFF",
    "pages of other sizes: page 2",
    ".tif",
    pages((GREY, {}), (OTHER[:33, :50], {}), want=OTHER[:33, :50]),
    page=2,
    pages=2,
)
add(
    "TIFF",
    "half-sized page of another field: page 2",
    ".tif",
    pages((GREY, {}), (OTHER[::2, ::2], {}), want=OTHER[::2, ::2]),
    page=2,
    pages=2,
)
add(
    "TIFF",
    "ImageJ's hyperstack: page 3",
    ".tif",
    tiff(
        np.stack([GREY, OTHER, DEEP >> 8, GREY // 2]).astype("u2").reshape(2, 2, H, W),
        DEEP >> 8,
        imagej=True,
        resolution=(0.4, 0.4),
        metadata={"axes": "ZCYX", "unit": "nm"},
    ),
    page=3,
    pages=4,
    size=(2.5, 2.5),
    source="ImageJ",
)


def imagej_large(path: Path) -> np.ndarray:
    """As ImageJ writes stacks of more than 4 GB: one page is described, and the others follow."""
    tifffile.imwrite(path, GREY, description="ImageJ=1.53\nimages=3\nslices=3\n", metadata=None)
    with path.open("ab") as file:
        file.write(OTHER.tobytes() + GREY.tobytes())
    return OTHER


add("TIFF", "ImageJ's stack of one described page: page 2", ".tif", imagej_large, page=2, pages=3)
add(
    "TIFF",
    "volume in one page: plane 2",
    ".tif",
    tiff(np.stack([GREY] * 8 + [OTHER] * 8), OTHER, photometric="minisblack", volumetric=True, tile=(16, 16, 16)),
    page=9,
    pages=16,
)

# TIFF: sizes

FEI = "[User]\r\nUser=a\r\n[Scan]\r\nPixelWidth=2.5e-09\r\nPixelHeight=5e-09\r\n"
ZEISS = "\r\n0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.500 nm\r\n"
TESCAN = b"\x01\x02[MAIN]\r\nPixelSizeX=1.5e-9\r\nPixelSizeY=1.5e-9\r\n"
PHENOM = '<FeiImage><pixelWidth unit="nm">3.5</pixelWidth><pixelHeight unit="nm">3.5</pixelHeight></FeiImage>'
for name, tag, size in (
    ("FEI", (34682, 2, 0, FEI, True), (2.5, 5.0)),
    ("Zeiss", (34118, 2, 0, ZEISS, True), (4.5, 4.5)),
    ("TESCAN", (50431, 7, len(TESCAN), TESCAN, True), (1.5, 1.5)),
    ("Phenom", (34683, 2, 0, PHENOM, True), (3.5, 3.5)),
):
    add("TIFF", f"size by {name}", ".tif", tiff(GREY, extratags=[tag]), size=size, source=name)
for unit, nm in (("nm", 1.0), ("µm", 1e3), ("Å", 0.1), ("pm", 1e-3)):
    value = 2.5 / nm
    add(
        "TIFF",
        f"size by OME in {unit}",
        ".ome.tif",
        tiff(
            GREY,
            metadata={
                "axes": "YX",
                "PhysicalSizeX": value,
                "PhysicalSizeXUnit": unit,
                "PhysicalSizeY": 2 * value,
                "PhysicalSizeYUnit": unit,
            },
        ),
        size=(2.5, 5.0),
        source="OME",
    )
for unit, nm in (("nm", 1.0), ("um", 1e3), ("micron", 1e3), ("\\u00B5m", 1e3)):
    add(
        "TIFF",
        f"size by ImageJ in {unit}",
        ".tif",
        tiff(GREY, imagej=True, resolution=(nm / 2.5, nm / 5.0), metadata={"unit": unit}),
        size=(2.5, 5.0),
        source="ImageJ",
    )
add("TIFF", "300 dpi, which are no size", ".tif", tiff(GREY, resolution=(300, 300), resolutionunit="inch"))

# PNG, JPEG, BMP

add("PNG", "8 bits", ".png", pillow(Image.fromarray(GREY), GREY))
add("PNG", "16 bits", ".png", pillow(Image.fromarray(DEEP), DEEP))
add("PNG", "1 bit", ".png", pillow(Image.fromarray(BITS), 255 * BITS))
add("PNG", "grey and alpha", ".png", pillow(Image.fromarray(np.dstack([GREY, OTHER])), GREY))
add("PNG", "RGB", ".png", pillow(Image.fromarray(COLOUR), luminance(Image.fromarray(COLOUR))), within=1)
add(
    "PNG",
    "RGB and alpha",
    ".png",
    pillow(Image.fromarray(np.dstack([COLOUR, OTHER])), luminance(Image.fromarray(COLOUR))),
    within=1,
)
add("PNG", "palette", ".png", pillow(Image.fromarray(COLOUR).quantize(16), by_pillow), within=1)
add(
    "PNG",
    "palette of 4 colours (2 bits)",
    ".png",
    pillow(Image.fromarray(COLOUR).quantize(4), by_pillow, bits=2),
    within=1,
)
add(
    "PNG",
    "palette with a transparent colour",
    ".png",
    pillow(Image.fromarray(COLOUR).quantize(16), luminance(Image.fromarray(COLOUR).quantize(16)), transparency=3),
    within=1,
)
add("PNG", "300 dpi, which are no size", ".png", pillow(Image.fromarray(GREY), GREY, dpi=(300, 300)))
add("JPEG", "grey", ".jpg", pillow(Image.fromarray(GREY), by_pillow), within=1)
add("JPEG", "colours with coarse chroma", ".jpg", pillow(Image.fromarray(COLOUR), by_pillow, subsampling=2), within=1)
add("JPEG", "colours, progressive", ".jpeg", pillow(Image.fromarray(COLOUR), by_pillow, progressive=True), within=1)
add(
    "JPEG", "CMYK, inverted as Adobe does", ".jpg", pillow(Image.fromarray(COLOUR).convert("CMYK"), by_pillow), within=1
)


def plain_cmyk(path: Path) -> np.ndarray:
    """A CMYK JPEG without Adobe's marker: its inks are not inverted."""
    file = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(file, "JPEG")
    content = file.getvalue()
    at = content.index(b"\xff\xee")
    path.write_bytes(content[:at] + content[at + 2 + struct.unpack(">H", content[at + 2 : at + 4])[0] :])
    return by_pillow(path)


add("JPEG", "CMYK without Adobe's marker", ".jpg", plain_cmyk, within=1)


def phenom_jpeg(path: Path) -> np.ndarray:
    Image.fromarray(GREY).save(path)
    want = by_pillow(path)
    with path.open("ab") as file:
        file.write(PHENOM.encode())
    return want


add("JPEG", "size by Phenom, behind the picture", ".jpg", phenom_jpeg, within=1, size=(3.5, 3.5), source="Phenom")
add("BMP", "8 bits", ".bmp", pillow(Image.fromarray(GREY), GREY))
add("BMP", "24 bits", ".bmp", pillow(Image.fromarray(COLOUR), luminance(Image.fromarray(COLOUR))), within=1)
add("BMP", "palette", ".bmp", pillow(Image.fromarray(COLOUR).quantize(16), by_pillow), within=1)
add("BMP", "1 bit", ".bmp", pillow(Image.fromarray(BITS), 255 * BITS))


def white_first(path: Path) -> np.ndarray:
    """A BMP of 1 bit whose palette begins with white."""
    Image.fromarray(~BITS).save(path)
    content = bytearray(path.read_bytes())
    content[54:62] = b"\xff\xff\xff\0\0\0\0\0"
    path.write_bytes(content)
    return 255 * BITS


add("BMP", "1 bit, 0 is white", ".bmp", white_first)

# HDF5


def hdf5(fill: Callable[[h5py.File], Any], want: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> Any:
        with h5py.File(path, "w") as file:
            fill(file)
        return want

    return write


def tagged(pixels: np.ndarray, axes: str) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        data = file.create_dataset("exported_data", data=pixels, compression="gzip")
        data.attrs["axistags"] = json.dumps({"axes": [{"key": axis, "typeFlags": 1} for axis in axes]})

    return fill


def labelled(pixels: np.ndarray, names: tuple[str, ...]) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        data = file.create_dataset("data", data=pixels)
        for number, name in enumerate(names):
            data.dims[number].label = name

    return fill


def datasets(**arrays: np.ndarray) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        for name, array in arrays.items():
            file[name] = array

    return fill


def nexus(file: h5py.File) -> None:
    """Two groups of data; the default leads to the smaller one, whose signal is named."""
    file.attrs["default"] = "entry"
    entry = file.create_group("entry")
    entry.attrs["NX_class"], entry.attrs["default"] = "NXentry", "sample"
    for name, pixels in (("background", OTHER.repeat(2, 0).repeat(2, 1)), ("sample", GREY)):
        group = entry.create_group(name)
        group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "counts"
        group.attrs["axes"] = ["y", "x"]
        group["counts"], group["counts_errors"] = pixels, np.ones((200, 200))


def old_nexus(file: h5py.File) -> None:
    """A signal marked by its own attribute, behind a link within the file."""
    file["instrument/detector"] = GREY
    file["instrument/detector"].attrs["signal"] = 1
    file["a_larger_one"] = OTHER.repeat(2, 0).repeat(2, 1)
    group = file.create_group("entry/data")
    group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "counts"
    group["counts"] = h5py.SoftLink("/instrument/detector")


for order in "<>":
    for kind in ("u2", "i2", "f4"):
        values = GREY.astype(order + kind)
        add(
            "HDF5",
            f"{values.dtype.name}, {'little' if order == '<' else 'big'}-endian",
            ".h5",
            hdf5(datasets(image=values), GREY),
        )
for axes, pixels, count in (
    ("yxc", GREY[..., None], 1),
    ("zyxc", GREY[None, ..., None], 1),
    ("yxc", np.dstack([GREY, OTHER]), 2),
    ("cyx", np.stack([GREY, OTHER]), 2),
    ("xy", GREY.T, 1),
    ("xyz", np.stack([GREY.T, OTHER.T], axis=-1), 2),
    ("tzyxc", np.stack([GREY, OTHER])[None, ..., None], 2),
    ("xyc", GREY.T[..., None], 1),
    ("yxz", np.dstack([GREY] * 30), 30),
):
    shape = "x".join(map(str, pixels.shape))
    add("HDF5", f"axistags {axes}, {shape}", ".h5", hdf5(tagged(pixels, axes), GREY), pages=count)
add(
    "HDF5",
    "axistags cyx of three colours",
    ".h5",
    hdf5(tagged(COLOUR.transpose(2, 0, 1), "cyx"), luminance(Image.fromarray(COLOUR))),
    within=1,
)
add("HDF5", "dimension labels x, y", ".h5", hdf5(labelled(GREY.T, ("x", "y")), GREY))
add(
    "HDF5",
    "dimension labels row, column, frame",
    ".h5",
    hdf5(labelled(np.dstack([GREY, OTHER]), ("row", "column", "frame")), GREY),
    pages=2,
)


def scaled(pixels: np.ndarray, names: tuple[str, ...]) -> Callable[[h5py.File], None]:
    """Dimension scales as netCDF has them: the axes are called as the datasets that hold their coordinates."""

    def fill(file: h5py.File) -> None:
        data = file.create_dataset("intensity", data=pixels)
        for number, (name, size) in enumerate(zip(names, pixels.shape, strict=True)):
            file[name] = np.arange(size) * 1.0
            file[name].make_scale(name)
            data.dims[number].attach_scale(file[name])

    return fill


def with_attributes(pixels: np.ndarray, **attributes: Any) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file["data"] = pixels
        file["data"].attrs.update(attributes)

    return fill


add("HDF5", "netCDF's dimensions x, y", ".h5", hdf5(scaled(GREY.T, ("x", "y")), GREY))
add(
    "HDF5",
    "netCDF's dimensions y, x, band",
    ".h5",
    hdf5(scaled(np.dstack([GREY] * 9), ("y", "x", "band")), GREY),
    pages=9,
)
add(
    "HDF5",
    "netCDF's dimensions time, y, x",
    ".h5",
    hdf5(scaled(np.stack([GREY, OTHER]), ("time", "y", "x")), GREY),
    pages=2,
)
for mode, order in (("PIXEL", (0, 1, 2)), ("LINE", (0, 2, 1)), ("PLANE", (2, 0, 1))):
    interlaced = with_attributes(COLOUR.transpose(order), CLASS=b"IMAGE", INTERLACE_MODE=f"INTERLACE_{mode}".encode())
    want = luminance(Image.fromarray(COLOUR))
    add("HDF5", f"HDF5's Image class, colours by {mode.lower()}", ".h5", hdf5(interlaced, want), within=1)
add(
    "HDF5",
    "HDF5's Image class, 0 is white",
    ".h5",
    hdf5(with_attributes(GREY, CLASS=b"IMAGE", IMAGE_WHITE_IS_ZERO=1), 255 - GREY),
)
MATLAB = {"MATLAB_class": b"uint8"}
add("HDF5", "MATLAB's matrix (7.3)", ".h5", hdf5(with_attributes(GREY.T, **MATLAB), GREY))
add(
    "HDF5",
    "MATLAB's colours (7.3)",
    ".h5",
    hdf5(with_attributes(COLOUR.T, **MATLAB), luminance(Image.fromarray(COLOUR))),
    within=1,
)
add(
    "HDF5",
    "MATLAB's stack (7.3)",
    ".h5",
    hdf5(with_attributes(np.stack([GREY.T, OTHER.T]), **MATLAB), OTHER),
    page=2,
    pages=2,
)
SIZED = {"size": (2.5, 5.0), "source": "element_size_um"}
UM = np.array([0.01, 0.005, 0.0025], "f4")
add(
    "HDF5", "element_size_um of z, y and x", ".h5", hdf5(with_attributes(GREY[None], element_size_um=UM), GREY), **SIZED
)
add("HDF5", "element_size_um of y and x", ".h5", hdf5(with_attributes(GREY, element_size_um=UM[1:]), GREY), **SIZED)
add("HDF5", "a calibration first", ".h5", hdf5(datasets(affine=np.eye(3), image=GREY), GREY))
add("HDF5", "a large table of points first", ".h5", hdf5(datasets(a=np.zeros((5000, 3)), image=GREY), GREY))
add("HDF5", "a preview first", ".h5", hdf5(datasets(a_preview=SMALL, image=GREY), GREY))
add("HDF5", "a mask first", ".h5", hdf5(datasets(a_mask=BITS.astype("u1"), image=DEEP), DEEP))
add("HDF5", "booleans first", ".h5", hdf5(datasets(a=BITS, image=DEEP), DEEP))
add("HDF5", "labels beside", ".h5", hdf5(datasets(label=BITS.astype("u2"), raw=DEEP), DEEP))
add("HDF5", "a Fourier transform first", ".h5", hdf5(datasets(a=np.fft.fft2(GREY), image=GREY), GREY))
add("HDF5", "a Fourier transform alone", ".h5", hdf5(datasets(a=np.fft.fft2(GREY)), "complex128"))
add("HDF5", "a table alone", ".h5", hdf5(datasets(a=np.zeros((500, 6))), "no dataset that is an image"))
add("HDF5", "a stack", ".hdf5", hdf5(datasets(volume=np.stack([GREY, OTHER])), OTHER), page=2, pages=2)
add(
    "HDF5",
    "frames along the last axis",
    ".h5",
    hdf5(datasets(frames=np.stack([GREY, OTHER], axis=-1)), OTHER),
    page=2,
    pages=2,
)
FRAMES = np.dstack([OTHER] + [GREY] * 11)
add("HDF5", "12 frames along the last axis", ".h5", hdf5(datasets(frames=FRAMES), GREY), page=2, pages=12)
add("HDF5", "colours last", ".h5", hdf5(datasets(image=COLOUR), luminance(Image.fromarray(COLOUR))), within=1)
add("HDF5", "NeXus: the default data's signal", ".h5", hdf5(nexus, GREY))
add("HDF5", "NeXus: a signal behind a link", ".h5", hdf5(old_nexus, GREY))

# Imaris, MRC, DM3, SER, EMD


def ims(path: Path) -> np.ndarray:
    write_ims(path, np.stack([DEEP, DEEP + 1, DEEP + 2])[:, None])
    return DEEP + 1


add("Imaris", "a volume: its middle slice", ".ims", ims, size=(50.0, 50.0), source="Imaris", pages=3)


def mrc(
    mode: int,
    stored: bytes,
    want: Any,
    order: str = "<",
    sections: int = 1,
    imod: int | None = None,
    most: float = 0.0,
    stamp: bool = True,
    columns: int = W,
) -> Callable[[Path], Any]:
    """An MRC file by the definition of MRC2014, at 2.5 nm along x and 5 nm along y."""

    def write(path: Path) -> Any:
        header = bytearray(1024)
        struct.pack_into(f"{order}10i", header, 0, columns, H, sections, mode, 0, 0, 0, columns, H, sections)
        struct.pack_into(f"{order}6f3i", header, 40, 25.0 * columns, 50.0 * H, 10.0, 90, 90, 90, 1, 2, 3)
        struct.pack_into(f"{order}2f", header, 76, 0.0, most)
        if imod is not None:
            struct.pack_into(f"{order}2i", header, 152, 1146047817, imod)
        if stamp:
            header[208:216] = b"MAP " + (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
        path.write_bytes(bytes(header) + stored)
        return want

    return write


MRC_SIZE = {"size": (2.5, 5.0), "source": "MRC header"}
SIGNED = (GREY.astype(int) - 100).clip(-128, 127)
for order, said in (("<", "little-endian"), (">", "big-endian")):
    for mode, kind, values in ((1, "i2", SIGNED), (2, "f4", SIGNED / 4), (6, "u2", DEEP), (12, "f2", SIGNED)):
        values = values.astype(order + kind)
        add(
            "MRC",
            f"mode {mode} ({values.dtype.name}), {said}",
            ".mrc",
            mrc(mode, values.tobytes(), values, order),
            **MRC_SIZE,
        )
add("MRC", "mode 0: signed bytes", ".mrc", mrc(0, SIGNED.astype("i1").tobytes(), SIGNED), **MRC_SIZE)
add(
    "MRC",
    "mode 0, IMOD's flag for signed bytes",
    ".mrc",
    mrc(0, SIGNED.astype("i1").tobytes(), SIGNED, imod=1),
    **MRC_SIZE,
)
add("MRC", "mode 0, IMOD's stamp without that flag", ".mrc", mrc(0, GREY.tobytes(), GREY, imod=0), **MRC_SIZE)
add("MRC", "mode 0, IMOD's other flags", ".mrc", mrc(0, GREY.tobytes(), GREY, imod=2 | 4), **MRC_SIZE)
add("MRC", "mode 0, a largest value above 127", ".mrc", mrc(0, GREY.tobytes(), GREY, most=250.0), **MRC_SIZE)
add(
    "MRC",
    "mode 16: colours",
    ".mrc",
    mrc(16, COLOUR.tobytes(), luminance(Image.fromarray(COLOUR))),
    within=1,
    **MRC_SIZE,
)
NIBBLES = GREY >> 4
add(
    "MRC",
    "mode 101: 4 bits",
    ".mrc",
    mrc(101, (NIBBLES[:, ::2] | NIBBLES[:, 1::2] << 4).tobytes(), NIBBLES),
    **MRC_SIZE,
)
ODD = np.pad(NIBBLES[:, :-1], ((0, 0), (0, 1)))
add(
    "MRC",
    "mode 101 of an odd width",
    ".mrc",
    mrc(101, (ODD[:, ::2] | ODD[:, 1::2] << 4).tobytes(), NIBBLES[:, :-1], columns=W - 1),
    **MRC_SIZE,
)
add(
    "MRC",
    "no machine stamp, big-endian",
    ".mrc",
    mrc(1, SIGNED.astype(">i2").tobytes(), SIGNED, ">", stamp=False),
    **MRC_SIZE,
)
add(
    "MRC",
    "a stack: section 2",
    ".mrc",
    mrc(6, np.stack([DEEP, DEEP + 1]).tobytes(), DEEP + 1, sections=2),
    page=2,
    pages=2,
    **MRC_SIZE,
)
add("MRC", "mode 4: complex numbers", ".mrc", mrc(4, np.zeros((H, W), "c8").tobytes(), "complex numbers"))
add("MRC", "mode 3: complex integers", ".mrc", mrc(3, bytes(4 * H * W), "complex numbers"))
add("MRC", "mode 9, which is none", ".mrc", mrc(9, bytes(4 * H * W), "mode 9|neither byte order"))
add("MRC", "cut off", ".mrc", mrc(2, bytes(H * W), "truncated"))


def seed(content: bytes, want: np.ndarray) -> Callable[[Path], np.ndarray]:
    def write(path: Path) -> np.ndarray:
        path.write_bytes(content)
        return want

    return write


add(
    "DM3",
    "two images",
    ".dm3",
    seed(picture_seeds.dm3s()[0], picture_seeds.GREY),
    size=(0.5, 0.5),
    source="calibration",
    pages=2,
)


def dm3(
    order: str, kind: str, data_type: int, thumbnail: bool = False, unit: str = "nm"
) -> Callable[[Path], np.ndarray]:
    """DigitalMicrograph 3: numbers of either byte order, and a thumbnail in front as it writes one."""

    def number(layout: str, code: int, value: float) -> bytes:
        return struct.pack(">2i", 1, code) + struct.pack(order + layout, value)

    def image(pixels: np.ndarray, unit: str) -> list:
        text = struct.pack(">4i", 3, 20, 4, len(unit)) + unit.encode("utf-16-le" if order == "<" else "utf-16-be")
        axis = [("Scale", number("f", 6, 0.5)), ("Origin", number("f", 6, 0.0)), ("Units", text)]
        sizes = [("", number("I", 5, size)) for size in pixels.shape[::-1]]
        data = [
            ("Calibrations", [("Dimension", [("", axis)] * len(sizes))]),
            ("Data", struct.pack(">4i", 3, 20, {"i2": 2, "f4": 6}[kind], pixels.size) + pixels.tobytes()),
            ("DataType", number("I", 5, data_type)),
            ("Dimensions", sizes),
            ("PixelDepth", number("I", 5, pixels.dtype.itemsize)),
        ]
        return [("ImageData", data), ("ImageTags", [])]

    def write(path: Path) -> np.ndarray:
        values = SIGNED.astype(order + kind)
        images = [image(values[::4, ::4].copy(), "")] * thumbnail + [image(values, unit)]
        tree = [("ImageList", [("", one) for one in images])]
        if thumbnail:
            tree.append(("Thumbnails", [("", [("ImageIndex", number("I", 5, 0))])]))
        group = picture_seeds._dm_group(tree)
        path.write_bytes(struct.pack(">3i", 3, len(group) + 4, order == "<") + group + bytes(8))
        return values

    return write


DM_SIZE = {"size": (0.5, 0.5), "source": "calibration"}
for order, said in (("<", "little-endian"), (">", "big-endian")):
    add("DM3", f"int16, {said}", ".dm3", dm3(order, "i2", 1), **DM_SIZE)
    add("DM3", f"float32, {said}", ".dm3", dm3(order, "f4", 2), **DM_SIZE)
add("DM3", "a thumbnail first", ".dm3", dm3("<", "i2", 1, thumbnail=True), **DM_SIZE)
add("DM3", "a diffraction pattern alone", ".dm3", dm3("<", "i2", 1, unit="1/nm"))
add(
    "SER",
    "big-endian",
    ".ser",
    lambda path: [path.write_bytes(b"MM" + picture_seeds.sers()[0][2:]), "big-endian"][1],
)
for number, name in enumerate(("32-bit places", "two images, 64-bit places")):
    add(
        "SER",
        name,
        ".ser",
        seed(picture_seeds.sers()[number], picture_seeds.GREY[::-1]),
        size=(2.5, 2.5),
        source="calibration",
        pages=number + 1,
    )
add(
    "EMD (Berkeley)",
    "an image",
    ".emd",
    seed(picture_seeds.emds()[0], picture_seeds.GREY.T),
    size=(2.5, 2.5),
    source="axes",
)


def velox(want: Any, *images: tuple[np.ndarray, float, str, str], spectra: bool = False) -> Callable[[Path], Any]:
    """Images of Velox `[H, W, frames]`: pixels, size of a pixel, its unit and the type of the detector."""

    def write(path: Path) -> Any:
        with h5py.File(path, "w") as file:
            file["Version"] = np.array([b'{"format":"Velox","version":"11"}'], dtype=object).astype(h5py.string_dtype())
            for number, (pixels, size, unit, kind) in enumerate(images):
                group = file.create_group(f"Data/Image/{number:032x}")
                group["Data"] = pixels if pixels.ndim == 3 else pixels[..., None]
                about = {
                    "BinaryResult": {
                        "PixelSize": {"width": str(size), "height": str(2 * size)},
                        "PixelUnitX": unit,
                        "PixelUnitY": unit,
                        "Detector": "D",
                        "DetectorIndex": "0",
                    },
                    "Detectors": {"Detector-0": {"DetectorName": "D", "DetectorType": kind}},
                }
                group["Metadata"] = np.frombuffer(json.dumps(about).encode().ljust(4096, b"\0"), "u1")[:, None]
            if spectra:
                file.create_group("Data/SpectrumImage")
                file["Data/Spectrum/0/Data"] = np.zeros((4096, 1), "u4")
        return want

    return write


HALF = np.fft.rfft2(GREY.astype(float))
FFT = np.zeros(HALF.shape, [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])
FFT["realFloatHalfEven"], FFT["imagFloatHalfEven"] = HALF.real, HALF.imag
DPC = FFT.astype([("realFloat", "<f4"), ("imagFloat", "<f4")])
VELOX_SIZE = {"size": (2.5, 5.0), "source": "Velox metadata"}
SCANNED = (DEEP, 2.5e-9, "m", "ScanningDetector")
add("EMD (Velox)", "an image", ".emd", velox(DEEP, SCANNED), **VELOX_SIZE)
add(
    "EMD (Velox)",
    "a Fourier transform first",
    ".emd",
    velox(DEEP, (FFT, 1e6, "1/m", "ScanningDetector"), SCANNED),
    **VELOX_SIZE,
)
add(
    "EMD (Velox)",
    "a complex DPC image first",
    ".emd",
    velox(DEEP, (DPC, 2.5e-9, "m", "ScanningDetector"), SCANNED),
    **VELOX_SIZE,
)
add(
    "EMD (Velox)",
    "a power spectrum first",
    ".emd",
    velox(DEEP, (OTHER, 1e6, "1/m", "ScanningDetector"), SCANNED),
    **VELOX_SIZE,
)
add("EMD (Velox)", "a Fourier transform alone", ".emd", velox("no image of real numbers", (FFT, 1e6, "1/m", "")))
add("EMD (Velox)", "a spectrum image beside", ".emd", velox(DEEP, SCANNED, spectra=True), **VELOX_SIZE)
add(
    "EMD (Velox)",
    "the map of an element first",
    ".emd",
    velox(DEEP, (OTHER, 2.5e-9, "m", "AnalyticalDetector"), SCANNED, spectra=True),
    pages=2,
    **VELOX_SIZE,
)
add(
    "EMD (Velox)",
    "frames: the second",
    ".emd",
    velox(DEEP + 1, (np.dstack([DEEP, DEEP + 1]), 2.5e-9, "m", "")),
    page=2,
    pages=2,
    **VELOX_SIZE,
)
add(
    "EMD (Velox)",
    "two detectors: the second",
    ".emd",
    velox(OTHER, SCANNED, (OTHER, 2.5e-9, "m", "ScanningDetector")),
    page=2,
    pages=2,
    **VELOX_SIZE,
)


BEFORE = """# Formats

What `sempre segment` and `read_micrograph` read of each kind of file, where the pixel size comes from, and what is
refused. Every row is a test (`tests/images/test_conformance.py`): its pixels and size are computed without
sempre's readers, and this page is written from the same table by `python -m tests.images.conformance`.
Sizes stand in sidecars and scale bars, too: see [deployment](deployment.md).

A picture is grey or becomes luminance (ITU-R BT.601); alpha is ignored. Of several pictures the first is taken
that is no thumbnail, smaller copy, mask, spectrum or Fourier transform; `--page` takes another. A preview or a
label by its name is taken only where an HDF5 file holds nothing else. An image whose axes are frequencies or
angles, a diffraction pattern, is taken only where there is no other.
"""


def page_of_formats() -> str:
    """docs/formats.md."""
    lines = [BEFORE]
    for format in dict.fromkeys(variant.format for variant in VARIANTS):
        lines += [f"## {format}", "", "| file | read | pages | size from |", "| --- | --- | --- | --- |"]
        for variant in VARIANTS:
            if variant.format == format:
                lines.append(f"| {variant.name} | {_read(variant)} | {variant.pages} | {variant.source or '-'} |")
        lines.append("")
    return "\n".join(lines)


def _read(variant: Variant) -> str:
    return "refused" if is_refused(variant) else "yes"


def is_refused(variant: Variant) -> bool:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return isinstance(variant.write(Path(folder) / f"a{variant.suffix}"), str)


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs/formats.md").write_text(page_of_formats(), encoding="utf-8")
