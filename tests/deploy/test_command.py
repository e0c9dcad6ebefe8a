import csv
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from roifile import ImagejRoi

import sempre
from sempre.deploy import released
from sempre.deploy.arguments import parse_pixel_size
from sempre.deploy.command import main
from sempre.deploy.sample_statistics import WRITTEN
from sempre.errors import InputError, how_to_install
from sempre.images import read_labels
from tests.deploy.conftest import bright_box_model, write_bundle
from tests.images.databars import font


@pytest.fixture
def micrographs(tmp_path):
    folder = tmp_path / "micrographs"
    folder.mkdir()
    for index, name in enumerate(("first.tif", "second.tif")):
        pixels = np.full((120, 150), 200, np.uint16)
        pixels[40:90, 30 : 80 + 10 * index] = 4000
        tifffile.imwrite(folder / name, pixels)
    return folder


@pytest.fixture
def segment(bright_box_bundle, tmp_path):
    """Run `sempre segment` and return the exit code."""

    def run(*arguments, out=tmp_path / "out", model=bright_box_bundle):
        with pytest.raises(SystemExit) as stop:
            main(["segment", "--threads", "1", "--model", str(model), "--out", str(out), *map(str, arguments)])
        return stop.value.code

    return run


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_segments_a_folder(segment, micrographs, tmp_path):
    assert segment(micrographs, "--pixel-size-nm", "2.5", "--imagej-rois") == 0
    out = tmp_path / "out"
    results = ("instances.tif", "particles.csv", "overlay.png", "rois.zip")
    names = {f"{stem}_{result}" for stem in ("first", "second") for result in results}
    assert {path.name for path in out.iterdir()} == names | {"summary.csv", "size_distribution.png", *WRITTEN}
    labels = read_labels(out / "first_instances.tif")
    (particle,) = read_rows(out / "first_particles.csv")
    (roi,) = ImagejRoi.fromfile(out / "first_rois.zip")
    assert labels.shape == (120, 150) and labels[65, 55] == 1
    assert float(particle["area_px2"]) == (labels == 1).sum()
    assert float(particle["feret_max_nm"]) == pytest.approx(2.5 * float(particle["feret_max_px"]), rel=1e-5)
    assert (roi.right - roi.left) == (labels == 1).any(axis=0).sum()
    first, second = read_rows(out / "summary.csv")
    assert (first["micrograph"], first["particles"], first["pixel_size_nm"]) == ("first.tif", "1", "2.5")
    assert float(second["covered_share"]) > float(first["covered_share"]) > 0
    assert Image.open(out / "size_distribution.png").format == "PNG"


def test_the_files_own_pixel_size_is_used(segment, tmp_path):
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40:90, 30:80] = 4000
    tifffile.imwrite(tmp_path / "known.tif", pixels, imagej=True, resolution=(2, 2), metadata={"unit": "nm"})
    assert segment(tmp_path / "known.tif") == 0
    (row,) = read_rows(tmp_path / "out/summary.csv")
    assert row["pixel_size_nm"] == "0.5" and row["median_equivalent_diameter_nm"]
    assert row["pixel_size_source"] == "metadata"


def with_scale_bar(path):
    """A bright square and a bar of 100 px that stands for 200 nm."""
    image = Image.new("L", (300, 200), 60)
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 20, 99, 79), fill=220)
    draw.rectangle((180, 180, 279, 184), fill=255)
    draw.text((230, 172), "200 nm", fill=255, font=font(22), anchor="mb")
    image.save(path)
    return path


def test_the_scale_bar_is_read_where_nothing_else_says_the_pixel_size(segment, tmp_path):
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    image = with_scale_bar(tmp_path / "a.png")
    sizes = {}
    for name, arguments in {"bar": (), "option": ("--pixel-size-nm", "3"), "none": ("--no-scale-bar",)}.items():
        assert segment(image, *arguments, out=tmp_path / name) == 0
        (row,) = read_rows(tmp_path / name / "summary.csv")
        sizes[name] = row["pixel_size_nm"], row["pixel_size_source"]
    assert float(sizes["bar"][0]) == pytest.approx(2, rel=0.02)
    assert sizes["bar"][1].startswith("scale bar, 200 nm on 100")
    assert sizes["option"] == ("3", "option") and sizes["none"] == ("", "")
    (tmp_path / "a.txt").write_text("[SemImageFile]\nPixelSize=4.5\n")
    assert segment(image, out=tmp_path / "sidecar") == 0
    (row,) = read_rows(tmp_path / "sidecar/summary.csv")
    assert (row["pixel_size_nm"], row["pixel_size_source"]) == ("4.5", "sidecar a.txt")


def test_without_an_ocr_library_only_who_asks_for_the_scale_bar_hears_of_it(segment, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    image = with_scale_bar(tmp_path / "a.png")
    assert segment(image) == 0
    assert "ocr" not in capsys.readouterr().err
    assert segment(image, "--scale-bar") == 2
    assert how_to_install("ocr") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "nm"), [("2.5nm", "2.5"), ("0.01 um", "10"), ("0.01µm", "10"), ("3.2Å", "0.32"), ("1e-3mm", "1000")]
)
def test_a_pixel_size_by_hand_wins_over_the_files(segment, tmp_path, size, nm):
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40:90, 30:80] = 4000
    tifffile.imwrite(tmp_path / "known.tif", pixels, imagej=True, resolution=(2, 2), metadata={"unit": "nm"})
    assert segment(tmp_path / "known.tif", "--pixel-size", size) == 0
    (row,) = read_rows(tmp_path / "out/summary.csv")
    assert row["pixel_size_nm"] == nm


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2.5x5nm", (2.5, 5)),
        ("2.5nm x 5 nm", (2.5, 5)),
        ("0.01µm×4nm", (10, 4)),
        ("3 Å x 1 nm", (0.3, 1)),
        ("2nm", (2, 2)),
    ],
)
def test_two_sizes_of_a_pixel_by_hand(text, size):
    assert parse_pixel_size(text) == pytest.approx(size)


@pytest.mark.parametrize("text", ["2.5x", "x5nm", "2x3x4nm", "2.5x5", "0x5nm", "2.5nmx-1nm", "nm", "2.5kg", ""])
def test_what_is_no_size_of_a_pixel(text):
    with pytest.raises(InputError, match="is no size: give a length above 0 with its unit"):
        parse_pixel_size(text)


def test_a_pixel_size_without_its_unit_says_what_to_give(segment, micrographs, capsys):
    assert segment(micrographs, "--pixel-size", "2.5") == 2
    assert "--pixel-size 2.5 is no size: give a length above 0 with its unit, as in 2.5nm" in capsys.readouterr().err


def test_formats_are_chosen(segment, micrographs, tmp_path):
    assert segment(micrographs, "--format", "png,csv") == 0
    stems = ("first", "second")
    names = {f"{stem}_{result}" for stem in stems for result in ("instances.png", "particles.csv")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {
        "summary.csv",
        "size_distribution.png",
        *WRITTEN,
    }
    labels = np.asarray(Image.open(tmp_path / "out/first_instances.png"))
    (particle,) = read_rows(tmp_path / "out/first_particles.csv")
    assert labels.dtype == np.uint16 and (labels == 1).sum() == float(particle["area_px2"])


def test_tiles_and_a_scale_by_hand(segment, micrographs, tmp_path):
    assert segment(micrographs, "--tile", "64", "--scale", "2") == 0
    assert all(row["particles"] != "0" for row in read_rows(tmp_path / "out/summary.csv"))


def test_a_pixel_size_far_from_the_models_is_a_warning(segment, micrographs, tmp_path, capsys):
    bundle = write_bundle(tmp_path / "fine", bright_box_model(), pixel_size_nm=2.0)
    assert segment(micrographs, "--pixel-size", "1um", model=bundle) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 2 and "1000 nm per px are too far from the model's 2 " in warnings[0]


def test_progress_goes_tile_by_tile(segment, micrographs, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert segment(micrographs / "first.tif", "--tile", "64") == 0
    assert "tile/s" in terminal.getvalue() and re.search(r"first.tif:  \d+%.* 3/\d+ ", terminal.getvalue())


def test_a_bad_file_does_not_stop_the_rest(segment, micrographs, tmp_path, capsys):
    (micrographs / "empty.tif").write_bytes(b"")
    (micrographs / "damaged.png").write_bytes(b"no picture")
    assert segment(micrographs, tmp_path / "absent.tif") == 1
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(complaints) == 3 and any("empty.tif" in line for line in complaints)
    errors = {row["micrograph"]: row["error"] for row in read_rows(tmp_path / "out/summary.csv")}
    assert {name for name, error in errors.items() if error} == {"empty.tif", "damaged.png", "absent.tif"}
    assert (tmp_path / "out/first_instances.tif").exists() and (tmp_path / "out/second_instances.tif").exists()


def test_no_particles(segment, micrographs, tmp_path):
    assert segment(micrographs, "--score-threshold", "0.95", "--imagej-rois") == 0
    assert read_rows(tmp_path / "out/first_particles.csv") == []
    assert not (tmp_path / "out/size_distribution.png").exists()
    assert [row["particles"] for row in read_rows(tmp_path / "out/summary.csv")] == ["0", "0"]


def test_the_information_bar_is_left_out(segment, tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(90, 110, (400, 500)).astype(np.uint8)
    pixels[100:180, 100:220] = 220
    pixels[360:] = 0
    pixels[370:390, 20:200:3] = 255
    tifffile.imwrite(tmp_path / "with_bar.tif", pixels)
    assert segment(tmp_path / "with_bar.tif", "--crop-information-bar") == 0
    labels = read_labels(tmp_path / "out/with_bar_instances.tif")
    assert labels.shape == (400, 500) and labels[140, 160] and not labels[:90].any() and not labels[190:].any()
    (row,) = read_rows(tmp_path / "out/summary.csv")
    assert (row["height_px"], row["covered_share"]) == ("400", f"{(labels > 0).sum() / (360 * 500):.4f}")
    assert Image.open(tmp_path / "out/with_bar_overlay.png").size == (1000, 800)


def test_a_particle_that_the_information_bar_cuts_is_in_the_micrographs_frame(segment, tmp_path):
    pixels = np.random.default_rng(0).integers(90, 110, (400, 500)).astype(np.uint8)
    pixels[300:380, 100:220] = 220
    pixels[360:] = 0
    pixels[370:390, 20:200:3] = 255
    tifffile.imwrite(tmp_path / "with_bar.tif", pixels)
    assert segment(tmp_path / "with_bar.tif", "--crop-information-bar", "--format", "tif,csv,rois") == 0
    (particle,) = read_rows(tmp_path / "out/with_bar_particles.csv")
    (roi,) = ImagejRoi.fromfile(tmp_path / "out/with_bar_rois.zip")
    assert particle["touches_border"] == "1", "its lower end is hidden"
    assert (float(particle["x_px"]), float(particle["y_px"])) == pytest.approx((160, 330), abs=2)
    assert (roi.top, roi.bottom) == pytest.approx((300, 360), abs=2)


def test_a_file_named_twice_is_segmented_once(segment, micrographs, tmp_path):
    assert segment(micrographs, micrographs / "first.tif") == 0
    assert len(read_rows(tmp_path / "out/summary.csv")) == 2


def test_results_below_the_micrographs_are_no_micrographs(segment, micrographs):
    for _ in range(2):
        assert segment(micrographs, out=micrographs / "results") == 0
        assert len(read_rows(micrographs / "results/summary.csv")) == 2
    assert segment(micrographs, out=micrographs) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pixel-size-nm", "0"),
        ("--pixel-size-nm", "nan"),
        ("--pixel-size", "2.5"),
        ("--pixel-size", "2.5 parsec"),
        ("--pixel-size", "0nm"),
        ("--pixel-size", "1nm", "--pixel-size-nm", "1"),
        ("--scale", "0"),
        ("--tile", "10"),
        ("--provider", "tpu"),
        ("--device", "0"),
        ("--format", "tif,pdf"),
        ("--score-threshold", "2"),
        ("--threads", "0"),
        ("--other",),
    ],
)
def test_unusable_arguments(segment, micrographs, tmp_path, arguments):
    assert segment(micrographs, *arguments) == 2
    assert not (tmp_path / "out").exists()


def test_unusable_bundles_and_folders(segment, micrographs, tmp_path, capsys):
    assert segment(micrographs, model=tmp_path / "absent") == 2
    (tmp_path / "nothing").mkdir()
    assert segment(tmp_path / "nothing") == 2
    assert segment() == 2
    assert all(line for line in capsys.readouterr().err.splitlines())


def test_runs_as_a_module_without_the_training_libraries(micrographs, bright_box_bundle, tmp_path):
    code = (
        "import sys, runpy\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'torchvision', 'omegaconf', 'timm', 'onnx'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "runpy.run_module('sempre.deploy.command', run_name='__main__')"
    )
    arguments = ["segment", micrographs, tmp_path / "absent.tif", "--model", bright_box_bundle, "--out", tmp_path / "o"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and (tmp_path / "o/first_overlay.png").exists()


def test_folders_of_any_name_on_a_console_of_few_letters(segment, micrographs, tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    renamed = micrographs.rename(tmp_path / "粒子 β")
    assert segment(renamed, out=tmp_path / "サイズ") == 0
    console.flush()
    assert b"2 particles in 2 micrographs, 0 failed" in console.buffer.getvalue()


def test_version():
    done = subprocess.run([sys.executable, "-m", "sempre.deploy.command", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"sempre {sempre.__version__}")


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A stand-in, empty, for the folder of the models that come with sempre."""
    monkeypatch.setattr(released, "released_root", lambda: tmp_path / "released")
    return tmp_path / "released"


def test_models_lists_what_comes_with_sempre(shipped, bright_box_bundle, capsys):
    for name in ("particles", "rods"):
        shutil.copytree(bright_box_bundle, shipped / name)
    (shipped / "__pycache__").mkdir()
    scores = {"EMPS": {"aji_plus": 0.7861, "std": 0.15, "micrographs": 96}}
    scores["powders"] = {"aji_plus": 0.5, "std": 0.0, "micrographs": 3}
    (shipped / "particles/scores.json").write_text(json.dumps(scores))
    assert run("models") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "kind", "MB", "scored", "on", "micrographs", "AJI+"]
    assert [row.split() for row in rows] == [
        ["particles", "mask_rcnn", "0.0", "EMPS", "96", "0.786", "±", "0.150"],
        ["powders", "3", "0.500", "±", "0.000"],
        ["rods", "mask_rcnn", "0.0", "-", "-", "-"],
    ]


def test_models_says_when_there_are_none(shipped, capsys):
    assert run("models") == 0
    assert "No models come with this sempre" in capsys.readouterr().out


def test_damaged_scores_are_named(shipped, bright_box_bundle, capsys):
    shutil.copytree(bright_box_bundle, shipped / "particles")
    (shipped / "particles/scores.json").write_text("[1]")
    assert run("models") == 2
    assert "scores.json holds no scores" in capsys.readouterr().err


def test_segments_with_the_model_that_comes_with_sempre(shipped, bright_box_bundle, micrographs, tmp_path):
    for name in ("particles", "rods"):
        shutil.copytree(bright_box_bundle, shipped / name)
    assert run("segment", micrographs, "--out", tmp_path / "default") == 0
    assert run("segment", micrographs, "--out", tmp_path / "named", "--model", "rods") == 0
    default, named = (
        [row | {"model": ""} for row in read_rows(tmp_path / f"{out}/summary.csv")] for out in ("default", "named")
    )
    assert default == named


def test_without_a_model_the_command_asks_for_one(shipped, micrographs, tmp_path, capsys):
    assert run("segment", micrographs, "--out", tmp_path / "out") == 2
    assert run("segment", micrographs, "--out", tmp_path / "out", "--model", "cubes") == 2
    nothing, unknown = capsys.readouterr().err.splitlines()
    assert "--model" in nothing and "cubes" in unknown and not (tmp_path / "out").exists()


def test_what_the_model_cannot_list_is_named(segment, micrographs, tmp_path, capsys):
    bundle = write_bundle(tmp_path / "narrow", bright_box_model(), detections_per_tile=1)
    assert segment(micrographs, model=bundle) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 2 and "first.tif" in warnings[0] and "missing" in warnings[0]
    assert all(int(row["overflowing_tiles"]) > 0 for row in read_rows(tmp_path / "out/summary.csv"))


@pytest.mark.parametrize("pixels", [np.full((90, 120), 40, np.uint8), np.full((90, 120), np.nan, np.float32)])
def test_an_image_of_one_grey_value_is_empty_with_the_released_model(segment, tmp_path, capsys, pixels):
    tifffile.imwrite(tmp_path / "blank.tif", pixels)
    assert segment(tmp_path / "blank.tif", model=released.DEFAULT) == 0
    assert "blank.tif shows a single grey value" in capsys.readouterr().err
    (row,) = read_rows(tmp_path / "out/summary.csv")
    assert row["particles"] == "0" and not read_labels(tmp_path / "out/blank_instances.tif").any()


@pytest.mark.parametrize("named", [["nosuch"], ["nosuch.tif"], ["no*.tif"], ["nosuch", "other.tif"]])
def test_a_name_that_does_not_exist_leaves_all_results_as_they_are(segment, named, tmp_path, capsys):
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, np.full((64, 64), 7, np.uint8))
    assert segment(image) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert segment(*(tmp_path / name for name in named)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / named[0]}") and "does not exist" in error and error.count("\n") == 1, (
        error
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["--pixelsize"], "did you mean --pixel-size?"),
        (["a.tif", "--out", "o", "--pixelsize=2nm"], "did you mean --pixel-size?"),
        (["a.tif", "--out", "o", "--treads", "2"], "did you mean --threads?"),
        (["a.tif", "--output", "o"], "did you mean --out?"),
        (["a.tif", "--out", "o", "--xyzzy"], "see --help"),
    ],
)
def test_an_option_that_is_none_is_told_with_the_nearest(arguments, nearest, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["segment", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: sempre segment") and nearest in error.splitlines()[-1]
