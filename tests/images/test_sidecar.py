import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.images import read_micrograph

GREY = np.full((24, 32), 90, np.uint8)
JEOL = "$CM_FORMAT JEOL-SEM\r\n$CM_FULL_SIZE 32 24\r\n$CM_MAG 5000\r\n$$SM_MICRON_BAR 160\r\n$$SM_MICRON_MARKER {}\r\n"
HITACHI = "[SemImageFile]\r\nInstructName=S-4800\r\nDataSize=32x24\r\nPixelSize=24.8\r\nMagnification=4000\r\n"
TESCAN = (
    "[MAIN]\r\nDevice=VEGA3\r\nMagnification=5000\r\nPixelSizeX=5.5e-09\r\nPixelSizeY=5.5e-09\r\n[SEM]\r\nHV=15000\r\n"
)
PHENOM = '<?xml version="1.0"?><FeiImage><pixelWidth unit="um">0.0695</pixelWidth></FeiImage>'


def save(path):
    Image.fromarray(GREY).save(path)
    return path


@pytest.mark.parametrize(("marker", "nm"), [("5um", 31.25), ("500nm", 3.125), ("10µm", 62.5)])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_jeol_txt(tmp_path, marker, nm, encoding):
    (tmp_path / "a.txt").write_bytes(JEOL.format(marker).encode(encoding))
    micrograph = read_micrograph(save(tmp_path / "a.bmp"))
    assert micrograph.pixel_size_nm == pytest.approx(nm)
    assert micrograph.pixel_size_source == "sidecar a.txt"


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_hitachi_txt(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(HITACHI.encode(encoding))
    assert read_micrograph(save(tmp_path / "a.tif")).pixel_size_nm == pytest.approx(24.8)


@pytest.mark.parametrize("name", ["a.hdr", "a-png.hdr"])
def test_tescan_hdr(tmp_path, name):
    (tmp_path / name).write_text(TESCAN)
    micrograph = read_micrograph(save(tmp_path / "a.png"))
    assert micrograph.pixel_size_nm == pytest.approx(5.5)
    assert micrograph.pixel_size_source == f"sidecar {name}"


def test_tescan_and_phenom_tags(tmp_path):
    tag = b"\xff\xd8\x00 a small picture \x00" + TESCAN.encode()
    tifffile.imwrite(tmp_path / "tescan.tif", GREY, extratags=[(50431, "B", len(tag), tag, True)])
    tifffile.imwrite(tmp_path / "phenom.tif", GREY, extratags=[(34683, "s", 0, PHENOM, True)])
    tescan, phenom = (read_micrograph(tmp_path / f"{name}.tif") for name in ("tescan", "phenom"))
    assert tescan.pixel_size_nm == pytest.approx(5.5) and tescan.pixel_size_source == "metadata"
    assert phenom.pixel_size_nm == pytest.approx(69.5)


def test_phenom_writes_behind_the_picture_of_a_jpeg(tmp_path):
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + PHENOM.encode())
    assert read_micrograph(path).pixel_size_nm == pytest.approx(69.5)


def test_the_files_own_pixel_size_goes_before_the_sidecars(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(2, 2), metadata={"unit": "nm"})
    (tmp_path / "a.txt").write_text(HITACHI)
    micrograph = read_micrograph(tmp_path / "a.tif")
    assert (micrograph.pixel_size_nm, micrograph.pixel_size_source) == (0.5, "metadata")


@pytest.mark.parametrize(
    "text",
    [
        "notes of the day: PixelSize is small",
        HITACHI.replace("DataSize=32x24", "DataSize=1280x960"),
        JEOL.format("5um").replace("FULL_SIZE 32", "FULL_SIZE 1280"),
        JEOL.format("5 furlongs"),
        JEOL.format("5um").replace("160", "0"),
        "",
    ],
)
def test_other_texts_and_those_of_another_size_of_image_say_nothing(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    micrograph = read_micrograph(save(tmp_path / "a.tif"))
    assert micrograph.pixel_size_nm is None and micrograph.pixel_size_source == ""
