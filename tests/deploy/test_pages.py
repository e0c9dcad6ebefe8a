"""Files that hold several pictures: which is segmented, what is said of the others, and what results are called."""

import csv

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.deploy import micrograph_results
from sempre.deploy.arguments import parse_pages
from sempre.deploy.batch import segment_batch
from sempre.deploy.inputs import find_inputs
from sempre.deploy.micrograph_results import BatchOptions
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.images import read_labels

SIDES = (20, 30, 40)


def page(side):
    """A bright square of `side` px, whose box the model finds."""
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40 : 40 + side, 30 : 30 + side] = 4000
    return pixels


STACK = np.stack([page(side) for side in SIDES])


@pytest.fixture
def segment(bright_box_bundle, tmp_path):
    segmenter = Segmenter(bright_box_bundle, threads=1)

    def run(out=tmp_path / "out", **options):
        return segment_batch(find_inputs([tmp_path / "in"], out), segmenter, BatchOptions(out, **options))

    (tmp_path / "in").mkdir()
    return run


def found(out):
    """The side of the square of each label image, by its name."""
    return {path.name: round((read_labels(path) > 0).sum() ** 0.5) for path in sorted(out.glob("*_instances.tif"))}


def rows(out):
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path, kind):
    if kind == "tif":
        tifffile.imwrite(path, STACK, photometric="minisblack")
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["volume"] = STACK
    elif kind == "mrc":
        import mrcfile

        with mrcfile.new(path) as file:
            file.set_data(STACK)
    else:  # pages of several sizes, as a program that prints writes them
        with tifffile.TiffWriter(path) as file:
            for number, pixels in enumerate(STACK):
                file.write(pixels[:, : 150 - 20 * number], photometric="minisblack", metadata=None)


@pytest.mark.parametrize("kind", ["tif", "h5", "mrc", "sizes.tif"])
def test_what_is_left_out_is_said_and_each_page_can_be_had(segment, tmp_path, capsys, kind):
    out, name = tmp_path / "out", f"stack.{kind}"
    write(tmp_path / "in" / name, kind)
    stem = name.rpartition(".")[0]
    assert segment() == 0
    told = capsys.readouterr()
    assert f"{name}: page 1 of 3 is segmented and 2 are left out: --page N takes another" in told.err
    assert "2 pages of stacks are left out" in told.out
    assert found(out) == {f"{stem}_instances.tif": 20}
    assert [(row["page"], row["pages_left_out"]) for row in rows(out)] == [("1", "2")]
    assert segment(pages=3) == 0
    assert found(out)[f"{stem}_p0003_instances.tif"] == 40
    capsys.readouterr()
    assert segment(pages="all") == 0
    told = capsys.readouterr()
    assert "left out" not in told.err
    for number, side in enumerate(SIDES, start=1):
        assert found(out)[f"{stem}_p{number:04d}_instances.tif"] == side
    assert segment(pages="all") == 0
    assert "(3 done before)" in capsys.readouterr().out


def test_files_of_one_page_keep_their_names_beside_stacks(segment, tmp_path):
    write(tmp_path / "in/stack.tif", "tif")
    Image.fromarray(page(50)).save(tmp_path / "in/single.png")
    assert segment(pages="all") == 0
    assert found(tmp_path / "out") == {"single_instances.tif": 50} | {
        f"stack_p{number:04d}_instances.tif": side for number, side in enumerate(SIDES, start=1)
    }


def test_a_page_that_is_not_there_fails_alone(segment, tmp_path, capsys):
    write(tmp_path / "in/stack.tif", "tif")
    Image.fromarray(page(50)).save(tmp_path / "in/single.png")
    assert segment(pages=2) == 1
    assert "single.png has no page 2: it has 1 page, counted from 1" in capsys.readouterr().err
    assert found(tmp_path / "out") == {"stack_p0002_instances.tif": 30}


def test_a_damaged_stack_stops_no_other(segment, tmp_path, capsys):
    write(tmp_path / "in/stack.tif", "tif")
    (tmp_path / "in/damaged.tif").write_bytes((tmp_path / "in/stack.tif").read_bytes()[:2000])
    assert segment(pages="all") == 1
    assert len(found(tmp_path / "out")) == 3
    assert "damaged.tif" in capsys.readouterr().err


def test_two_stacks_of_one_name_keep_their_own_results(segment, tmp_path):
    """A second folder's stack of the same name must not be written over the first's pages."""
    write(tmp_path / "in/stack.tif", "tif")
    assert segment(pages="all") == 0
    write(tmp_path / "in/stack.tiff", "tif")
    assert segment(pages="all") == 0
    assert set(found(tmp_path / "out")) == {
        f"{name}_p{number:04d}_instances.tif" for name in ("stack", "stack.tiff") for number in (1, 2, 3)
    }


def test_results_that_would_have_one_name_are_refused(segment, tmp_path):
    write(tmp_path / "in/stack.tif", "tif")
    Image.fromarray(page(50)).save(tmp_path / "in/stack_p0002.png")
    with pytest.raises(InputError, match="have one name"):
        segment(pages="all")


def test_what_a_page_may_be():
    assert (parse_pages(None), parse_pages("3"), parse_pages(" 003"), parse_pages("ALL")) == (None, 3, 3, "all")
    for text in ("0", "-1", "1.5", "first", "", "1,2", "²"):
        with pytest.raises(InputError, match="give a number"):
            parse_pages(text)


def pages_table(out, name="stack"):
    with (out / f"{name}_pages.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_over_the_pages_agrees_with_their_label_images(segment, tmp_path):
    tifffile.imwrite(
        tmp_path / "in/stack.tif",
        STACK,
        imagej=True,
        resolution=(0.5, 0.5),
        metadata={"axes": "TYX", "unit": "nm", "finterval": 2.5},
    )
    assert segment(pages="all") == 0
    table = pages_table(tmp_path / "out")
    assert [(row["page"], row["time_s"], row["particles"]) for row in table] == [
        ("1", "0", "1"),
        ("2", "2.5", "1"),
        ("3", "5", "1"),
    ]
    for number, row in enumerate(table, start=1):
        area = (read_labels(tmp_path / f"out/stack_p{number:04d}_instances.tif") > 0).sum()
        assert float(row["covered_share"]) == pytest.approx(area / (120 * 150), abs=1e-4)
        for name in ("mean", "d10", "d50", "d90"):
            assert float(row[f"{name}_px"]) == pytest.approx(2 * np.sqrt(area / np.pi), rel=1e-4)
            assert float(row[f"{name}_nm"]) == pytest.approx(4 * np.sqrt(area / np.pi), rel=1e-4)
        assert row["sd_px"] == row["error"] == "" and row["pixel_size_nm"] == "2"


def test_the_table_is_whole_after_a_stop_without_tables_and_with_a_damaged_page(segment, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(tmp_path / "in/stack.tif", "tif")
    Image.fromarray(page(50)).save(tmp_path / "in/single.png")
    assert segment(pages=2) == 1 and not list(out.glob("*_pages.csv")), "a single page has no second"
    assert segment(pages="all") == 0
    before = pages_table(out)
    assert len(before) == 3 and [path.name for path in out.glob("*_pages.csv")] == ["stack_pages.csv"]
    (out / "stack_pages.csv").unlink()
    assert segment(pages="all") == 0 and pages_table(out) == before, "of results that were there"

    (out / "stack_p0002_particles.csv").unlink()
    reading = micrograph_results.read_micrograph
    monkeypatch.setattr(
        micrograph_results, "read_micrograph", lambda path, page: reading(path, page=page if page != 2 else 9)
    )
    assert segment(pages="all") == 1
    assert [(row["page"], row["particles"], "no page 9" in row["error"]) for row in pages_table(out)] == [
        ("1", "1", False),
        ("2", "", True),
        ("3", "1", False),
    ]
    monkeypatch.undo()
    assert segment(out=tmp_path / "labels", pages="all", formats=("tif",)) == 0
    table = pages_table(tmp_path / "labels")
    assert [row["d50_px"] for row in table] == [row["d50_px"] for row in before] and table[0]["mean_px"] == ""
