"""Pixel sizes in x and y, their units, and resolutions that are none. Each file is written by a library or by hand."""

import json
import struct

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempre.errors import InputError
from sempre.images import PixelSize, as_pixel_size, read_micrograph
from sempre.images.pixel_size import length_nm, nm_per_unit
from sempre.images.volume import open_volume
from tests.fuzzing import picture_seeds

H, W = 24, 36
GREY = picture_seeds.GREY
OME = (
    '<?xml version="1.0" encoding="UTF-8"?>{before}'
    '<{p}OME xmlns{ns}="http://www.openmicroscopy.org/Schemas/OME/2016-06"><{p}Image ID="Image:0">'
    '<{p}Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="36" SizeY="24" SizeZ="1" SizeC="1" SizeT="1"'
    ' {sizes}><{p}Channel ID="C:0" SamplesPerPixel="1"/><{p}TiffData/></{p}Pixels></{p}Image></{p}OME>'
)


def imagej(path, x, y, unit="nm", nm=1.0, extra=""):
    description = f"ImageJ=1.54f\nunit={unit}\n{extra}".encode("latin-1", "xmlcharrefreplace")
    resolution = tuple((round(1e9 * nm / side), 10**9) if nm / side < 4 else nm / side for side in (x, y))
    tifffile.imwrite(path, GREY, description=description, resolution=resolution, resolutionunit=1, metadata=None)


def ome(path, sizes, before="", prefix="", encoding="utf-8"):
    ns = f":{prefix[:-1]}" if prefix else ""
    text = OME.format(sizes=sizes, before=before, p=prefix, ns=ns)
    tifffile.imwrite(path, GREY, description=text.encode(encoding), metadata=None)


def tagged(path, code, content, kind="s"):
    tifffile.imwrite(path, GREY, extratags=[(code, kind, 0 if kind == "s" else len(content), content, True)])


def write_mrc(path, x, y):
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, W, H, 1, 0)
    struct.pack_into("<3i3f3f3i", header, 28, W, H, 1, W * x * 10, H * y * 10, 10.0, 90, 90, 90, 1, 2, 3)
    header[208:216] = b"MAP \x44\x44\0\0"
    path.write_bytes(bytes(header) + (GREY // 2).astype("i1").tobytes())


def write_dm3(path, x, y, unit="nm"):
    def axis(size):
        text = unit.encode("utf-16-le")
        units = struct.pack(">4i", 3, 20, 4, len(text) // 2) + text
        numbers = [
            (name, picture_seeds._dm_simple(6, "<f", value)) for name, value in (("Scale", size), ("Origin", 0.0))
        ]
        return [*numbers, ("Units", units)]

    data = [
        ("Calibrations", [("Dimension", [("", axis(x)), ("", axis(y))])]),
        ("Data", struct.pack(">4i", 3, 20, 10, GREY.size) + GREY.tobytes()),
        ("DataType", picture_seeds._dm_simple(5, "<I", 6)),
        ("Dimensions", [("", picture_seeds._dm_simple(5, "<I", side)) for side in (W, H)]),
        ("PixelDepth", picture_seeds._dm_simple(5, "<I", 1)),
    ]
    image = [("ImageData", data), ("ImageTags", []), ("Name", picture_seeds._dm_text("field"))]
    group = picture_seeds._dm_group([("ImageList", [("", image), ("", image)])])
    path.write_bytes(struct.pack(">3i", 3, len(group) + 4, 1) + group + bytes(8))


def write_ser(path, x, y):
    (content,) = picture_seeds.sers()[:1]
    at = content.index(struct.pack("<d", 2.5e-9))
    sized = bytearray(content)
    struct.pack_into("<d", sized, at, x * 1e-9)
    struct.pack_into("<d", sized, content.index(struct.pack("<d", 2.5e-9), at + 8), y * 1e-9)
    path.write_bytes(sized)


def write_emd(path, x, y):
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = GREY.T  # RosettaSciIO takes the first axis for x
        for number, (side, size) in enumerate(((W, x), (H, y)), start=1):
            axis = group.create_dataset(f"dim{number}", data=np.arange(side) * size)
            axis.attrs["name"], axis.attrs["units"] = f"axis {number}", "[n_m]"


def write_velox(path, x, y, unit="m", with_y=True):
    size = {
        "width": str(x * 1e-9 * (1e9 if unit == "nm" else 1)),
        "height": str(y * 1e-9 * (1e9 if unit == "nm" else 1)),
    }
    result = {"PixelSize": size, "PixelUnitX": unit} | ({"PixelUnitY": unit} if with_y else {})
    text = json.dumps({"BinaryResult": result, "Core": {}}).encode()
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([b'{"format": "Velox", "version": "1.8"}'])
        group = file.create_group("Data/Image/0123456789abcdef")
        group["Data"] = GREY[..., None]
        group["Metadata"] = np.frombuffer(text.ljust(4096, b"\0"), np.uint8)[:, None]


def write_ims(path, x, y, unit=""):
    with h5py.File(path, "w") as file:
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"] = np.pad(GREY[None], ((0, 0), (0, 8), (0, 4)))
        information = file.create_group("DataSetInfo/Image").attrs
        nm = 1.0 if unit == "nm" else 1e3
        values = {"X": W, "Y": H, "Z": 1, "ExtMin0": 2.0, "ExtMax0": 2 + W * x / nm}
        values |= {"ExtMin1": -1.0, "ExtMax1": -1 + H * y / nm} | ({"Unit": unit} if unit else {})
        for name, value in values.items():
            information[name] = np.frombuffer(str(value).encode(), "S1")


def write_tescan(path, x, y):
    text = b"\xff\xd8\x00 a picture \x00[MAIN]\r\nPixelSizeX=%.6e\r\nPixelSizeY=%.6e\r\n" % (x * 1e-9, y * 1e-9)
    tagged(path, 50431, text, "B")


def write_phenom_jpeg(path, x, y):
    Image.fromarray(GREY).save(path)
    text = f"<pixelWidth unit='um'>{x / 1e3}</pixelWidth><pixelHeight unit='um'>{y / 1e3}</pixelHeight>"
    path.write_bytes(path.read_bytes() + f"<FeiImage>{text}</FeiImage>".encode())


def write_serialem(path, x, y):
    tifffile.imwrite(
        path, GREY, software="SerialEM", resolution=(1e7 / x, 1e7 / y), resolutionunit="CENTIMETER", metadata=None
    )


def write_gatan(path, x, y):
    tags = [(65003, "s", 0, "nm", True), (65004, "s", 0, "µm".encode("latin-1"), True)]
    tags += [(65009, "d", 1, x, True), (65010, "d", 1, y / 1e3, True)]
    tifffile.imwrite(path, GREY, extratags=tags)


def write_hdr(path, x, y):
    Image.fromarray(GREY).save(path)
    path.with_suffix(".hdr").write_text(f"[MAIN]\nPixelSizeX={x * 1e-9:.5e}\nPixelSizeY={y * 1e-9:.5e}\n")


SOURCES = {
    "imagej.tif": imagej,
    "imagej_units.tif": lambda path, x, y: imagej(path, x / 1e3, y, "um", extra="yunit=nm\n"),
    "a.ome.tif": lambda path, x, y: ome(path, f'PhysicalSizeX="{x / 1e3}" PhysicalSizeY="{y / 1e3}"'),
    "units.ome.tif": lambda path, x, y: ome(
        path,
        f'PhysicalSizeY="{y * 10}" PhysicalSizeYUnit="Å" PhysicalSizeX="{x * 1e3}" PhysicalSizeXUnit="pm"',
    ),
    "fei.tif": lambda path, x, y: tagged(path, 34682, f"[Scan]\nPixelWidth={x * 1e-9}\nPixelHeight={y * 1e-9}\n"),
    "escan.tif": lambda path, x, y: tagged(path, 34680, f"[EScan]\nPixelHeight={y * 1e-9}\nPixelWidth={x * 1e-9}\n"),
    "tescan.tif": write_tescan,
    "phenom.tif": lambda path, x, y: tagged(
        path, 34683, f"<A><pixelWidth>{x * 1e-9}</pixelWidth><pixelHeight unit='nm'>{y}</pixelHeight></A>"
    ),
    "phenom.jpg": write_phenom_jpeg,
    "serialem.tif": write_serialem,
    "gatan.tif": write_gatan,
    "a.dm3": write_dm3,
    "a.mrc": write_mrc,
    "a.ser": write_ser,
    "a.emd": write_emd,
    "velox.emd": write_velox,
    "velox_nm.emd": lambda path, x, y: write_velox(path, x, y, "nm", with_y=False),
    "a.ims": write_ims,
    "nm.ims": lambda path, x, y: write_ims(path, x, y, "nm"),
    "sidecar.png": write_hdr,
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("x", "y"), [(2.5, 5.0), (8.0, 2.0), (4.0, 4.0)])
def test_every_source_gives_x_and_y(tmp_path, name, x, y):
    SOURCES[name](tmp_path / name, x, y)
    micrograph = read_micrograph(tmp_path / name)
    assert micrograph.pixels.shape == (H, W)
    assert micrograph.pixel_size_nm == pytest.approx(x, rel=1e-4)
    assert micrograph.pixel_size_y_nm == pytest.approx(y, rel=1e-4)
    assert micrograph.square_pixel_size_nm == (pytest.approx(x, rel=1e-4) if x == y else None)
    volume = open_volume(tmp_path / name)
    assert (volume.pixel_size_nm, volume.pixel_size_y_nm) == pytest.approx((x, y), rel=1e-4)


def test_sides_that_differ_by_one_percent_are_equal():
    assert as_pixel_size((2.5, 2.52)) == PixelSize(2.5, 2.5)
    assert as_pixel_size((2.5, 2.6)) == PixelSize(2.5, 2.6)
    assert as_pixel_size(2.5) == PixelSize(2.5, 2.5) and as_pixel_size(None) is None
    assert as_pixel_size((2.0, 8.0)).mean == pytest.approx(4.0)
    assert as_pixel_size(np.array([2.0, 8.0])) == as_pixel_size([2, 8]) == PixelSize(2.0, 8.0)
    assert as_pixel_size(np.float32(2)) == PixelSize(2.0, 2.0)
    for wrong in (0.0, -1.0, float("nan"), float("inf"), (2.5, 0.0), (1.0, 1.0, 1.0)):
        with pytest.raises(InputError, match="no pixel size"):
            as_pixel_size(wrong)


SPELLINGS = {
    1e3: "um µm μm UM µM micron microns Micron micrometer micrometers micrometre Mikrometer micromètre µ ㎛ µm/px"
    " um/pixel [um] [u_m] (µm) \\u00B5m \\u00b5m \\u03BCm \\\\u00B5m \\xb5m &#181;m &#xB5;m &#956;m &micro;m &mu;m"
    " &amp;#181;m Âµm Î¼m Ã‚Âµm \x83Êm \ufffdm µm\0",
    1.0: "nm NM nanometer nanometers Nanometre nm/pixel [n_m] ㎚ nanomètres",
    0.1: "Å \u212b A\u030a A angstrom Angstroms Ångström \\u00C5 &#197; &Aring; Ã… Ã\x85",
    1e-3: "pm picometer picometres",
    1e6: "mm millimeter MM",
    1e7: "cm centimetre CM",
    1e9: "m meter metres",
    2.54e7: 'inch inches in "',
}


@pytest.mark.parametrize(
    ("nm", "spelling"), [(nm, spelling) for nm, names in SPELLINGS.items() for spelling in names.split(" ")]
)
def test_units_in_every_spelling(nm, spelling):
    assert nm_per_unit(spelling) == pytest.approx(nm)


@pytest.mark.parametrize(
    "unit",
    [
        "",
        "1",
        "pixel",
        "pixels",
        "px",
        "1/nm",
        "nm^-1",
        "1 / nm",
        "s",
        "ms",
        "eV",
        "µs",
        "nm2",
        "a.u.",
        None,
        1,
        "x" * 999,
    ],
)
def test_what_is_no_unit_of_length(unit):
    assert nm_per_unit(unit) is None


@given(st.text() | st.integers() | st.none())
def test_any_text_is_a_unit_or_none(unit):
    assert nm_per_unit(unit) is None or nm_per_unit(unit) > 0
    assert length_nm(unit) is None or isinstance(length_nm(unit), float)


@pytest.mark.parametrize(
    ("text", "nm"),
    [
        ("2.5 nm", 2.5),
        ("2,5nm", 2.5),
        ("0,025 µm", 25.0),
        (".5 Å", 0.05),
        ("1e-9 m", 1.0),
        ("2 \\u00B5m", 2e3),
        ("2,500 nm", None),
        ("2.5", None),
        ("nm", None),
        ("2.5.1 nm", None),
        ("2.5 kV", None),
    ],
)
def test_lengths(text, nm):
    assert length_nm(text) == (None if nm is None else pytest.approx(nm))


@pytest.mark.parametrize("unit", ["micron", "\\u00B5m", "\\u03bcm", "&#181;m", "um", "Âµm", "µm"])
def test_imagej_units(tmp_path, unit):
    imagej(tmp_path / "a.tif", 0.0025, 0.005, unit)
    assert read_micrograph(tmp_path / "a.tif").pixel_size == pytest.approx((2.5, 5.0), rel=1e-5)


@pytest.mark.parametrize("description", ["unit=1", "unit=true", "unit=", "", "unit=pixel", "unit= ", "unit=None"])
def test_imagej_without_a_unit_of_length(tmp_path, description):
    text = f"ImageJ=1.54f\n{description}\n"
    tifffile.imwrite(tmp_path / "a.tif", GREY, description=text, resolution=(0.4, 0.4), metadata=None)
    assert read_micrograph(tmp_path / "a.tif").pixel_size is None


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ("PhysicalSizeX='0.0025' PhysicalSizeY='0.005' PhysicalSizeXUnit='µm'", (2.5, 5.0)),
        ('PhysicalSizeX = "0.0025"\n PhysicalSizeXUnit = "&#181;m"', (2.5, 2.5)),
        (
            'PhysicalSizeX="0.0025" PhysicalSizeXUnit="&#x3BC;m" PhysicalSizeYUnit="mm" PhysicalSizeY="2.5e-6"',
            (2.5, 2.5),
        ),
        ('PhysicalSizeX="25" PhysicalSizeXUnit="&Aring;"', (2.5, 2.5)),
        ('PhysicalSizeX="0.0025" PhysicalSizeXUnit="&micro;m"', (2.5, 2.5)),
        ('PhysicalSizeX="2.5e-7" PhysicalSizeXUnit="cm" PhysicalSizeY="5000" PhysicalSizeYUnit="pm"', (2.5, 5.0)),
        ('PhysicalSizeY="0.0025"', (2.5, 2.5)),
        ('PhysicalSizeX="2.5" PhysicalSizeXUnit="pixel"', None),
        ('PhysicalSizeX="2.5" PhysicalSizeXUnit="nm" PhysicalSizeY="2.5" PhysicalSizeYUnit="pixel"', None),
        ('PhysicalSizeX="many"', None),
        ('PhysicalSizeX="0"', None),
        ('PhysicalSizeX="-2"', None),
        ('PhysicalSizeX="NaN"', None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "ome:"])
def test_ome_is_xml(tmp_path, sizes, size, prefix):
    ome(tmp_path / "a.ome.tif", sizes, prefix=prefix)
    assert read_micrograph(tmp_path / "a.ome.tif").pixel_size == (None if size is None else pytest.approx(size))


def test_ome_of_other_encodings(tmp_path):
    ome(tmp_path / "latin.tif", 'PhysicalSizeX="0.0025" PhysicalSizeXUnit="µm"', encoding="latin-1")
    ome(tmp_path / "twice.tif", 'PhysicalSizeX="0.0025" PhysicalSizeXUnit="Âµm"')
    for name in ("latin.tif", "twice.tif"):
        assert read_micrograph(tmp_path / name).pixel_size_nm == pytest.approx(2.5)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", ["&a9;", "&x;", "0.0025"])
def test_no_entity_of_a_document_is_expanded(tmp_path, size):
    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    doctype = f'<!DOCTYPE OME [<!ENTITY a0 "0.0025">{bomb}<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    ome(tmp_path / "a.ome.tif", f'PhysicalSizeX="{size}"', before=doctype)
    micrograph = read_micrograph(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(micrograph.pixels, GREY)
    assert micrograph.pixel_size is None


def test_the_ome_image_of_the_pages_own_size_counts(tmp_path):
    text = OME.format(sizes='PhysicalSizeX="0.0025"', before="", p="", ns="")
    other = '<Image ID="Image:9"><Pixels ID="Pixels:9" SizeX="9" SizeY="6" PhysicalSizeX="0.01"></Pixels></Image>'
    text = text.replace("<Image", f"{other}<Image", 1)
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, description=text.encode(), metadata=None)
    assert read_micrograph(tmp_path / "a.ome.tif").pixel_size_nm == pytest.approx(2.5)


@pytest.mark.parametrize("dpi", [72, 96, 100, 150, 200, 300, 400, 600, 1200])
@pytest.mark.parametrize("unit", ["inch", "cm", "mm", "um", "micron"])
def test_a_print_resolution_is_no_pixel_size(tmp_path, dpi, unit):
    nm = {"inch": 2.54e7, "cm": 1e7, "mm": 1e6}.get(unit, 1e3)
    per_unit = round(dpi * nm / 2.54e7, 3 if unit == "cm" else 9)  # as many digits as programs write
    number = {"inch": 2, "cm": 3}.get(unit, 1)
    tifffile.imwrite(
        tmp_path / "imagej.tif",
        GREY,
        description=f"ImageJ=1.54f\nunit={unit}\n",
        resolution=(per_unit, per_unit),
        resolutionunit=number,
        metadata=None,
    )
    ome(tmp_path / "a.ome.tif", f'PhysicalSizeX="{25400 / dpi}" PhysicalSizeY="{25400 / dpi}"')  # as Bio-Formats does
    for software in ("", "Adobe Photoshop CS6", "GIMP"):
        tifffile.imwrite(
            tmp_path / f"by {software}.tif",
            GREY,
            resolution=(per_unit, per_unit),
            resolutionunit=number,
            software=software or None,
            metadata=None,
        )
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(dpi, dpi))
    Image.fromarray(GREY).save(tmp_path / "a.jpg", dpi=(dpi, dpi))
    assert {path.name: read_micrograph(path).pixel_size for path in tmp_path.iterdir()} == dict.fromkeys(
        [path.name for path in tmp_path.iterdir()]
    )


@pytest.mark.parametrize(("unit", "per_unit"), [("cm", 4e6), ("inch", 1.016e7), ("mm", 4e5), ("cm", 1e4 / 2.5)])
def test_sizes_in_large_units_that_no_print_has(tmp_path, unit, per_unit):
    description = f"ImageJ=1.54f\nunit={unit}\n"
    tifffile.imwrite(
        tmp_path / "a.tif",
        GREY,
        description=description,
        resolution=(per_unit, per_unit),
        resolutionunit=1,
        metadata=None,
    )
    nm = {"cm": 1e7, "inch": 2.54e7, "mm": 1e6}[unit] / per_unit
    assert read_micrograph(tmp_path / "a.tif").pixel_size_nm == pytest.approx(nm)


@pytest.mark.parametrize("um", [101.0, 352.778, 5000.0])
def test_a_pixel_above_a_tenth_of_a_millimetre_cannot_be(tmp_path, um):
    imagej(tmp_path / "imagej.tif", um, um, "um", 1.0)
    ome(tmp_path / "a.ome.tif", f'PhysicalSizeX="{um}"')
    tagged(tmp_path / "fei.tif", 34682, f"[Scan]\nPixelWidth={um * 1e-6}\nPixelHeight={um * 1e-6}\n")
    write_hdr(tmp_path / "a.png", um * 1e3, um * 1e3)
    for name in ("imagej.tif", "a.ome.tif", "fei.tif", "a.png"):
        assert read_micrograph(tmp_path / name).pixel_size is None


@pytest.mark.parametrize(
    "lines",
    [
        "AP_PIXEL_SIZE\r\nPixel Size = 2.5 nm\r\n",
        "AP_PIXEL_SIZE\r\nPixel Size = 0.0025 µm\r\n",
        "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 2500 pm\r\nAP_PIXEL_SIZE\r\nPixel Size = 5 nm\r\n",
        "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 0.0 nm\r\nAP_PIXEL_SIZE\r\nPixel Size = 2.5nm\r\n",
    ],
)
def test_zeiss(tmp_path, lines):
    tagged(tmp_path / "a.tif", 34118, ("0\r\n0\r\n0\r\n" + lines).encode("latin-1"))
    assert read_micrograph(tmp_path / "a.tif").pixel_size == pytest.approx((2.5, 2.5))


def test_zeiss_of_old_versions_names_no_size(tmp_path):
    tagged(tmp_path / "a.tif", 34118, "0\r\n0\r\n0\r\n2.5e-009\r\n0\r\nAP_WD\r\nWD = 4 mm\r\n")
    assert read_micrograph(tmp_path / "a.tif").pixel_size_nm == pytest.approx(2.5)


@pytest.mark.parametrize("name", ["a.tif.mdoc", "a.mdoc"])
def test_serialem_mdoc(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / "a.tif")
    (tmp_path / name).write_text("ImageFile = a.tif\nImageSize = 36 24\nPixelSpacing = 25\n\n[ZValue = 0]\n")
    micrograph = read_micrograph(tmp_path / "a.tif")
    assert micrograph.pixel_size_nm == pytest.approx(2.5)
    assert micrograph.pixel_size_source == f"sidecar {name}"
    (tmp_path / name).write_text("ImageSize = 72 48\nPixelSpacing = 25\n")
    assert read_micrograph(tmp_path / "a.tif").pixel_size is None


@pytest.mark.parametrize(
    ("marker", "encoding"), [("10μm", "cp932"), ("10 μm", "utf-8"), ("0.01mm", "ascii"), ("10 micron", "ascii")]
)
def test_jeol_markers(tmp_path, marker, encoding):
    text = f"$CM_FULL_SIZE {W} {H}\r\n$$SM_MICRON_BAR 20\r\n$$SM_MICRON_MARKER {marker}\r\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    Image.fromarray(GREY).save(tmp_path / "a.bmp")
    assert read_micrograph(tmp_path / "a.bmp").pixel_size_nm == pytest.approx(500)


@pytest.mark.parametrize("unit", ["nm", "µm", "Å", "um", "pm"])
def test_units_of_digitalmicrograph(tmp_path, unit):
    nm = {"nm": 1.0, "µm": 1e3, "Å": 0.1, "um": 1e3, "pm": 1e-3}[unit]
    write_dm3(tmp_path / "a.dm3", 2.5 / nm, 5.0 / nm, unit)
    assert read_micrograph(tmp_path / "a.dm3").pixel_size == pytest.approx((2.5, 5.0), rel=1e-4)


def test_frequencies_are_no_lengths(tmp_path):
    write_dm3(tmp_path / "a.dm3", 2.5, 2.5, "1/nm")
    assert read_micrograph(tmp_path / "a.dm3").pixel_size is None


def test_the_aspect_of_pixels_by_a_prints_resolution(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(300, 150), resolutionunit="inch")
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(300, 150))
    Image.fromarray(GREY).save(tmp_path / "a.jpg", dpi=(300, 150))
    Image.fromarray(GREY).save(tmp_path / "equal.png", dpi=(300, 300))
    Image.fromarray(GREY).save(tmp_path / "silent.png")
    aspects = {path.name: read_micrograph(path).pixel_aspect for path in tmp_path.iterdir()}
    assert aspects == pytest.approx({"a.tif": 2, "a.png": 2, "a.jpg": 2, "equal.png": 1, "silent.png": 1}, rel=1e-3)
