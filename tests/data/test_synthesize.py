import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempre.errors import InputError
from sempre.images import crop_information_bar, read_labels, read_micrograph
from sempre.synthetic import FieldOptions, render_field, render_fungus

SCRIPT = Path(__file__).parents[2] / "data" / "synthesize.py"
SMALL = ("labelled=3", "unlabelled=4", "size=128")


def load_script():
    spec = importlib.util.spec_from_file_location("synthesize", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthesize"] = module
    spec.loader.exec_module(module)
    return module


def synthesize(monkeypatch, *options) -> None:
    """Run the recipe in this process."""
    monkeypatch.setattr(sys, "argv", ["synthesize.py", "workers=1", *map(str, options)])
    load_script().main()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*.*"))}


def test_writes_labelled_and_unlabelled_micrographs(tmp_path, monkeypatch, capsys):
    synthesize(monkeypatch, f"out={tmp_path / 'set'}", *SMALL)
    images = sorted((tmp_path / "set/labelled/images").iterdir())
    labels = sorted((tmp_path / "set/labelled/labels").iterdir())
    unlabelled = sorted((tmp_path / "set/unlabelled").iterdir())
    assert [file.name for file in images] == [file.name for file in labels]
    assert (len(images), len(unlabelled)) == (3, 4)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        field = render_field(number, (128, 128))
        micrograph = read_micrograph(image)
        np.testing.assert_array_equal(micrograph.pixels, field.pixels)
        np.testing.assert_array_equal(read_labels(label), field.labels)
        assert micrograph.pixels.dtype == np.uint8
        assert micrograph.pixel_size_nm == pytest.approx(field.pixel_size_nm, rel=1e-5)
    assert "3 labelled and 4 unlabelled micrographs (7 new)" in capsys.readouterr().out


def test_a_set_of_the_fungus_is_in_colour(tmp_path, monkeypatch):
    synthesize(
        monkeypatch,
        f"out={tmp_path / 'set'}",
        "labelled=4",
        "unlabelled=2",
        "size=96",
        "variety=fungus",
        "empty_share=0.25",
    )
    image = tmp_path / "set/labelled/images/labelled_00001.tif"
    field = render_fungus(1, (96, 96))
    np.testing.assert_array_equal(read_micrograph(image, colour=True).pixels, field.pixels)
    np.testing.assert_array_equal(read_labels(tmp_path / "set/labelled/labels/labelled_00001.tif"), field.labels)
    assert not read_labels(tmp_path / "set/labelled/labels/labelled_00003.tif").any(), "the fourth is empty"
    assert read_micrograph(tmp_path / "set/unlabelled/unlabelled_00001.tif").pixels.shape == (96, 96), "no bar"
    preview = np.asarray(Image.open(tmp_path / "set/preview.png"))
    assert (preview[..., 0] != preview[..., 2]).mean() > 0.5
    with pytest.raises(InputError, match="variety=fungus shows no particles"):
        synthesize(monkeypatch, f"out={tmp_path / 'other'}", "variety=fungus", "kinds=[rod]")


def test_specimens_are_rendered_in_turn_at_every_magnification(tmp_path, monkeypatch):
    options = ["labelled=4", "unlabelled=0", "size=96", "magnifications=[low,high]", "specimens=[sintered,cuboids]"]
    synthesize(monkeypatch, f"out={tmp_path}", *options)
    shown = [("low", "sintered"), ("high", "sintered"), ("low", "cuboids"), ("high", "cuboids")]
    for number, (magnification, specimen) in enumerate(shown):
        field = render_field(number, (96, 96), FieldOptions(magnification, specimen=specimen))
        written = read_labels(tmp_path / f"labelled/labels/labelled_{number:05}.tif")
        np.testing.assert_array_equal(written, field.labels)
    with pytest.raises(InputError, match="specimen 'soot' is unknown"):
        synthesize(monkeypatch, f"out={tmp_path / 'other'}", "specimens=[soot]", *SMALL)


def test_no_micrograph_is_both_labelled_and_unlabelled(tmp_path, monkeypatch):
    synthesize(monkeypatch, f"out={tmp_path}", *SMALL, "information_bars=false")
    everything = [read_micrograph(file).pixels.tobytes() for file in tmp_path.rglob("*/labelled_*.tif")]
    images = [name for name in contents(tmp_path) if "labels/" not in name and name.endswith(".tif")]
    pixels = {read_micrograph(tmp_path / name).pixels.tobytes() for name in images}
    assert len(images) == len(pixels) == 7 and len(everything) == 6


def test_every_second_unlabelled_micrograph_has_an_information_bar_that_can_be_cropped(tmp_path, monkeypatch):
    synthesize(monkeypatch, f"out={tmp_path}", "labelled=0", "unlabelled=12", "size=256")
    for number, file in enumerate(sorted((tmp_path / "unlabelled").iterdir())):
        micrograph = read_micrograph(file)
        expected = render_field(2**31 + number, (256, 256))
        assert (micrograph.pixels.shape[0] > 256) == (number % 2 == 1)
        np.testing.assert_array_equal(micrograph.pixels[:256], expected.pixels)
        assert micrograph.pixel_size_nm == pytest.approx(expected.pixel_size_nm, rel=1e-5)
        assert crop_information_bar(micrograph.pixels).shape == (256, 256)


def test_micrographs_that_are_there_are_kept_and_more_are_added(tmp_path, monkeypatch, capsys):
    synthesize(monkeypatch, f"out={tmp_path}", *SMALL)
    first = contents(tmp_path)
    removed = tmp_path / "labelled/labels/labelled_00001.tif"
    removed.unlink()
    kept = tmp_path / "unlabelled/unlabelled_00002.tif"
    before = kept.stat().st_mtime_ns
    synthesize(monkeypatch, f"out={tmp_path}", *SMALL[:1], "unlabelled=5", "size=128")
    after = contents(tmp_path)
    assert "(2 new)" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before
    del first["options.yaml"]
    assert {name: after[name] for name in first} == first
    assert set(after) - set(first) == {"options.yaml", "unlabelled/unlabelled_00004.tif"}


def test_the_set_is_the_same_for_every_number_of_workers(tmp_path, monkeypatch):
    synthesize(monkeypatch, f"out={tmp_path / 'one'}", *SMALL)
    command = [sys.executable, str(SCRIPT), f"out={tmp_path / 'two'}", *SMALL, "workers=2"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {**one, "options.yaml": b""} == {**two, "options.yaml": b""}


def test_the_preview_outlines_the_instances(tmp_path, monkeypatch):
    synthesize(monkeypatch, f"out={tmp_path}", "labelled=6", "unlabelled=0", "size=128")
    preview = np.asarray(Image.open(tmp_path / "preview.png")).astype(int)
    assert preview.shape == (640, 1280, 3)
    coloured = np.ptp(preview, axis=2) > 0
    filled = [(read_labels(file) > 0).any() for file in sorted((tmp_path / "labelled/labels").iterdir())]
    tiles = coloured.reshape(2, 320, 4, 320).any(axis=(1, 3)).ravel()[:6]
    assert tiles.tolist() == filled


def test_another_seed_gives_another_set_and_needs_another_folder(tmp_path, monkeypatch):
    synthesize(monkeypatch, f"out={tmp_path / 'a'}", *SMALL)
    synthesize(monkeypatch, f"out={tmp_path / 'b'}", *SMALL, "seed=1")
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert set(a) == set(b) and all(a[name] != b[name] for name in a if "images/" in name)
    with pytest.raises(InputError, match="holds another set"):
        synthesize(monkeypatch, f"out={tmp_path / 'a'}", *SMALL, "seed=1")


@pytest.mark.parametrize("option", ["labelled=-1", "seed=-1", "size=16", "variety=odd"])
def test_numbers_out_of_range_are_refused(tmp_path, monkeypatch, option):
    with pytest.raises(InputError, match=option):
        synthesize(monkeypatch, f"out={tmp_path}", *SMALL, option)
    assert not any(tmp_path.iterdir())


def test_a_set_can_be_restricted_to_kinds_and_magnifications(tmp_path, monkeypatch):
    options = ["labelled=2", "unlabelled=0", "size=128", "magnifications=[high,low]", "kinds=[sphere]"]
    synthesize(monkeypatch, f"out={tmp_path / 'set'}", *options)
    for number, magnification in enumerate(("high", "low")):
        field = render_field(number, (128, 128), FieldOptions(magnification=magnification, kinds=("sphere",)))
        image = read_micrograph(tmp_path / f"set/labelled/images/labelled_{number:05}.tif")
        np.testing.assert_array_equal(image.pixels, field.pixels)
        assert set(field.kinds) <= {"sphere"}


def test_a_wide_set_shows_wide_fields_and_is_another_set(tmp_path, monkeypatch):
    synthesize(monkeypatch, f"out={tmp_path}", *SMALL, "variety=wide")
    field = render_field(1, (128, 128), FieldOptions(variety="wide"))
    np.testing.assert_array_equal(read_micrograph(tmp_path / "labelled/images/labelled_00001.tif").pixels, field.pixels)
    np.testing.assert_array_equal(read_labels(tmp_path / "labelled/labels/labelled_00001.tif"), field.labels)
    with pytest.raises(InputError, match="holds another set"):
        synthesize(monkeypatch, f"out={tmp_path}", *SMALL)
