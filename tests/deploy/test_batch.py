"""Batches that meet what folders of micrographs are like: files held, damaged, renamed, added, done before."""

import csv
import os
import shutil
import sys

import numpy as np
import pytest
import tifffile

from sempre.deploy.batch import segment_batch
from sempre.deploy.inputs import find_inputs
from sempre.deploy.micrograph_results import BatchOptions
from sempre.deploy.pages import read_diameters
from sempre.deploy.segmenter import Segmenter
from sempre.images import read_labels


def write_square(path, side=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40 : 40 + side, 30 : 30 + side] = 4000
    tifffile.imwrite(path, pixels)


class Counted:
    """A segmenter that notes the width of what it segments, and can be made to fail."""

    def __init__(self, segmenter):
        self.segmenter, self.calls, self.fail_at = segmenter, 0, {}

    def __getattr__(self, name):
        return getattr(self.segmenter, name)

    def segment(self, *arguments):
        self.calls += 1
        if self.calls in self.fail_at:
            raise self.fail_at[self.calls]
        return self.segmenter.segment(*arguments)


@pytest.fixture
def segmenter(bright_box_bundle):
    return Counted(Segmenter(bright_box_bundle, threads=1))


@pytest.fixture
def micrographs(tmp_path):
    for name in ("a.tif", "b.tif", "c.tif"):
        write_square(tmp_path / "micrographs" / name)
    return tmp_path / "micrographs"


@pytest.fixture
def segment(segmenter, micrographs, tmp_path):
    """Segment the micrographs and return the exit code."""

    def run(*images, out=tmp_path / "out", **options):
        return segment_batch(find_inputs(images or [micrographs], out), segmenter, BatchOptions(out, **options))

    return run


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def errors(out):
    return {row["micrograph"]: row["error"] for row in read_rows(out / "summary.csv")}


def test_results_mirror_the_folders_of_the_micrographs(segment, micrographs, tmp_path):
    write_square(micrographs / "low/a.tif", side=30)
    shutil.copy(micrographs / "b.tif", micrographs / "b.png.tif")
    shutil.copy(micrographs / "b.tif", micrographs / "b.tiff")
    assert segment() == 0
    out = tmp_path / "out"
    assert {path.relative_to(out).as_posix() for path in out.rglob("*_instances.tif")} == {
        "a_instances.tif",
        "b.png_instances.tif",
        "b.tif_instances.tif",
        "b.tiff_instances.tif",
        "c_instances.tif",
        "low/a_instances.tif",
    }
    assert (read_labels(out / "low/a_instances.tif") > 0).sum() < (read_labels(out / "a_instances.tif") > 0).sum()
    assert {"low/a.tif", "a.tif", "b.tif", "b.tiff"} < {row["micrograph"] for row in read_rows(out / "summary.csv")}


def test_an_output_that_a_spreadsheet_holds_stops_no_other(segment, tmp_path, like_windows, capsys):
    out = tmp_path / "out"
    assert segment() == 0
    like_windows.held.add(out / "b_particles.csv")
    assert segment(overwrite=True) == 1
    assert [name for name, error in errors(out).items() if error] == ["b.tif"]
    told = capsys.readouterr().err
    assert "b_particles.csv cannot be written" in told and told.rstrip().splitlines()[-2] == "failed:"
    like_windows.held.clear()
    assert segment() == 0 and not any(errors(out).values())


def test_a_summary_that_a_spreadsheet_holds_loses_nothing(
    segment, segmenter, micrographs, tmp_path, like_windows, capsys
):
    out = tmp_path / "out"
    assert segment() == 0
    like_windows.held.add(out / "summary.csv")
    write_square(micrographs / "d.tif")
    assert segment() == 1
    assert "the summary is in" in capsys.readouterr().err
    assert len(read_rows(out / "summary.csv")) == 3 and len(read_rows(out / "summary_new.csv")) == 4
    like_windows.held.clear()
    assert segment() == 0 and segmenter.calls == 4
    assert len(read_rows(out / "summary.csv")) == 4 and not (out / "summary_new.csv").exists()


def test_a_crash_leaves_what_was_done_and_a_second_run_goes_on(segment, segmenter, tmp_path, capsys):
    segmenter.fail_at = {3: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        segment()
    assert list(errors(tmp_path / "out")) == ["a.tif", "b.tif"]
    assert segment() == 0
    assert segmenter.calls == 4 and list(errors(tmp_path / "out")) == ["a.tif", "b.tif", "c.tif"]
    assert "3 particles in 3 micrographs (2 done before), 0 failed" in capsys.readouterr().out


def test_a_row_that_was_cut_short_is_done_again(segment, segmenter, tmp_path):
    assert segment() == 0
    summary = tmp_path / "out/summary.csv"
    summary.write_bytes(summary.read_bytes()[:-30])
    assert segment() == 0
    assert segmenter.calls == 4 and len(read_rows(summary)) == 3


@pytest.mark.parametrize("content", [b"", b"micrograph;particles\r\na.tif;1\r\n", b"\xff\xfe\x00garbled"])
def test_a_summary_of_another_make_is_written_anew(segment, tmp_path, content):
    assert segment() == 0
    (tmp_path / "out/summary.csv").write_bytes(content)
    assert segment() == 0 and len(read_rows(tmp_path / "out/summary.csv")) == 3


def test_a_fault_of_ours_in_one_micrograph_is_told_and_stops_no_other(segment, segmenter, tmp_path, capsys):
    segmenter.fail_at = {1: ZeroDivisionError("of a bug"), 2: MemoryError()}
    assert segment() == 1
    assert [bool(error) for error in errors(tmp_path / "out").values()] == [True, True, False]
    told = capsys.readouterr().err
    assert "Traceback" in told and "ZeroDivisionError: of a bug): please report it" in told and "--tile" in told


def test_done_is_what_the_same_micrograph_and_options_gave(segment, segmenter, micrographs, tmp_path):
    def calls(**options):
        before = segmenter.calls
        assert segment(**options) == 0
        return segmenter.calls - before

    assert [calls(), calls(), calls(overwrite=True)] == [3, 0, 3]
    assert [calls(score_threshold=0.3), calls(score_threshold=0.3), calls()] == [3, 0, 3]
    os.utime(micrographs / "a.tif", (1, 1))
    assert [calls(), calls()] == [1, 0]
    (tmp_path / "out/b_overlay.png").unlink()
    assert [calls(), calls()] == [1, 0]
    assert [calls(formats=("tif", "csv")), calls(formats=("tif", "rois")), calls(formats=("tif", "rois"))] == [0, 3, 0]


@pytest.mark.parametrize("version", ["READER_VERSION", "DECODING_VERSION"])
def test_results_of_another_reader_or_decoding_are_done_again(segment, segmenter, monkeypatch, version):
    assert segment() == segment() == 0 and segmenter.calls == 3
    monkeypatch.setattr(f"sempre.deploy.batch.{version}", 77)
    assert segment() == segment() == 0 and segmenter.calls == 6


@pytest.mark.parametrize("name", ["a_cp_masks.tif", "b-labels.tif", "mask_c.tif", "masks/a_mask.tif", "a_overlay.png"])
def test_labels_beside_micrographs_are_left_out_and_told(segment, segmenter, micrographs, tmp_path, name, capsys):
    write_square(micrographs / name)
    assert segment() == 0 and segmenter.calls == 3
    if "/" not in name:
        assert f"1 files are labels by their names and are left out, {micrographs / name}" in capsys.readouterr().err
    assert [row["micrograph"] for row in read_rows(tmp_path / "out/summary.csv")] == ["a.tif", "b.tif", "c.tif"]
    assert segment(*sorted(micrographs.rglob("*.*"))) == 0, "named one by one, as a shell does"
    assert len(read_rows(tmp_path / "out/summary.csv")) == 3


@pytest.mark.parametrize("name", ["n" * 241 + ".tif", "n" * 251 + ".tif", "粒" * 83 + ".tif", "é" * 120 + ".tif"])
def test_the_longest_names_are_segmented(segment, segmenter, tmp_path, name):
    for folder in ("one", "two"):  # two micrographs of names that are cut
        write_square(tmp_path / f"long/{folder}/{name}")
    formats = ("tif", "png", "csv", "overlay", "rois")
    assert segment(tmp_path / "long", formats=formats) == segment(tmp_path / "long", formats=formats) == 0
    assert segmenter.calls == 2, "and known as done"
    assert (
        len(list((tmp_path / "out").rglob("*_instances.tif"))) == 2
        and (tmp_path / "out/size_distribution.png").exists()
    )


def test_a_second_run_does_not_segment_the_firsts_results(segment, segmenter, micrographs, tmp_path, capsys):
    assert segment(out=micrographs / "first") == 0
    assert segment(out=micrographs / "second") == 0
    assert segmenter.calls == 6 and len(read_rows(micrographs / "second/summary.csv")) == 3
    assert "7 results of earlier runs are left out" in capsys.readouterr().err


def test_the_summary_and_the_plot_are_of_all_results_in_the_folder(segment, segmenter, micrographs, tmp_path):
    for name in ("a.tif", "b.tif"):
        assert segment(micrographs / name) == 0
    assert list(errors(tmp_path / "out")) == ["a.tif", "b.tif"]
    write_square(tmp_path / "other/a.tif")
    assert segment(tmp_path / "other/a.tif") == 0
    assert list(errors(tmp_path / "out")) == ["a.tif", "b.tif", "other/a.tif"]
    (tmp_path / "out/other/a_instances.tif").unlink()
    for name in ("a_particles.csv", "a_overlay.png"):
        (tmp_path / "out/other" / name).unlink()
    assert segment() == 0 and segmenter.calls == 4
    assert list(errors(tmp_path / "out")) == ["a.tif", "b.tif", "c.tif"]


def test_runs_on_windows(segment, micrographs, tmp_path, request):
    if os.name != "nt":
        shutil.copy(micrographs / "a.tif", micrographs / "5kV: a?.tif")
        write_square(micrographs / "aux/nul.tif")
    request.getfixturevalue("like_windows")
    for _ in range(2):
        assert segment(formats=("tif", "png", "csv", "overlay", "rois"), overwrite=True) == 0
    assert all(row["particles"] == "1" for row in read_rows(tmp_path / "out/summary.csv"))
    if os.name != "nt":
        assert (tmp_path / "out/5kV_ a__instances.tif").exists() and (tmp_path / "out/_aux/_nul_rois.zip").exists()


def test_a_plot_that_cannot_be_made_is_a_failure_of_its_own(segment, tmp_path, like_windows):
    like_windows.held.add(tmp_path / "out/size_distribution.png")
    assert segment() == 1
    assert not any(errors(tmp_path / "out").values())


def test_a_corrected_scale_beside_the_micrograph_is_heard(segment, segmenter, micrographs, tmp_path):
    (micrographs / "a.txt").write_text("[SemImageFile]\nPixelSize=2.5\n")
    assert segment() == 0 and segment() == 0 and segmenter.calls == 3
    (micrographs / "a.txt").write_text("[SemImageFile]\nPixelSize=3.5\n")
    (micrographs / "b.hdr").write_text("[MAIN]\nPixelSizeX=4.0e-9\nPixelSizeY=4.0e-9\n")
    assert segment() == 0 and segmenter.calls == 5
    sizes = {row["micrograph"]: row["pixel_size_nm"] for row in read_rows(tmp_path / "out/summary.csv")}
    assert float(sizes["a.tif"]) == 3.5 and float(sizes["b.tif"]) == 4.0 and not sizes["c.tif"]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
def test_a_name_that_is_no_utf_8_is_segmented_and_listed(segmenter, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    write_square(folder / os.fsdecode(b"caf\xe9.tif"))
    write_square(folder / "plain.tif")
    out = tmp_path / "odd_out"
    for _ in range(2):
        assert segment_batch(find_inputs([folder], out), segmenter, BatchOptions(out)) == 0
    assert len((out / "summary.csv").read_bytes().splitlines()) == 3


def test_pixels_that_are_not_square(segment, micrographs, tmp_path, capsys):
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40:90, 30:80] = 4000
    for path in micrographs.iterdir():
        path.unlink()
    for name, sizes in {"wide.tif": (4.0, 2.0), "tall.tif": (2.0, 8.0), "square.tif": (2.0, 2.0)}.items():
        resolution = tuple(1 / size for size in sizes)
        tifffile.imwrite(micrographs / name, pixels, imagej=True, resolution=resolution, metadata={"unit": "nm"})
    assert segment(formats=("csv",)) == 0
    rows = {row["micrograph"]: row for row in read_rows(tmp_path / "out/summary.csv")}
    for name, (x, y) in {"wide.tif": (4.0, 2.0), "tall.tif": (2.0, 8.0), "square.tif": (2.0, 2.0)}.items():
        row = rows[name]
        assert (float(row["pixel_size_nm"]), float(row["pixel_size_y_nm"])) == pytest.approx((x, y))
        ratio = float(row["median_equivalent_diameter_nm"]) / float(row["median_equivalent_diameter_px"])
        assert ratio == pytest.approx(np.sqrt(x * y), rel=1e-4)
        (particle,) = read_rows(tmp_path / f"out/{name[:-4]}_particles.csv")
        assert float(particle["feret_min_nm"]) == pytest.approx(50 * min(x, y), rel=0.1)
    told = capsys.readouterr().err
    assert "tall.tif: its pixels are 2 nm wide and 8 nm high" in told and "square.tif: its pixels" not in told


def test_what_a_border_cuts_is_left_out_and_that_is_said(segment, micrographs, tmp_path, capsys):
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40:90, :30] = 4000
    tifffile.imwrite(micrographs / "d.tif", pixels)
    assert segment() == 0
    rows = {row["micrograph"]: row for row in read_rows(tmp_path / "out/summary.csv")}
    assert (rows["d.tif"]["particles"], rows["d.tif"]["particles_cut"]) == ("1", "1")
    assert rows["d.tif"]["median_equivalent_diameter_px"] == "" and rows["a.tif"]["median_equivalent_diameter_px"]
    assert "1 of 4 particles are cut by a border or an information bar" in capsys.readouterr().out
    assert len(read_diameters(tmp_path / "out/d_particles.csv", "px")) == 0


def test_where_all_are_cut_there_is_no_plot(segment, micrographs, tmp_path):
    for path in micrographs.iterdir():
        path.unlink()
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[:30, 40:90] = 4000
    tifffile.imwrite(micrographs / "a.tif", pixels)
    assert segment() == 0
    assert not (tmp_path / "out/size_distribution.png").exists()


@pytest.mark.parametrize("scaled", [{"a": 2.0}, {"a": 2.0, "c": 50.0}, {"a": 3.0, "b": 3.0, "c": 3.0}, {}])
def test_sizes_in_px_are_pooled_only_where_no_scale_is_known(
    segment, micrographs, tmp_path, capsys, monkeypatch, scaled
):
    for name, size in scaled.items():
        (micrographs / f"{name}.txt").write_text(f"[SemImageFile]\nPixelSize={size}\n")
    plotted = []
    monkeypatch.setattr("sempre.deploy.size_plot.write_size_plot", lambda path, *of: plotted.append(of))
    assert segment() == 0
    ((diameters, unit, micrographs_shown, _),) = plotted
    told = capsys.readouterr().err
    assert unit == ("nm" if scaled else "px")
    assert len(diameters) == micrographs_shown == (len(scaled) or 3)
    expected = sorted(size * np.sqrt(4 * 2500 / np.pi) for size in scaled.values())
    assert sorted(diameters) == pytest.approx(expected or [np.sqrt(4 * 2500 / np.pi)] * 3, rel=1e-4)
    unscaled = [f"{name}.tif" for name in "abc" if name not in scaled]
    if scaled and unscaled:
        assert f"leaves out {len(unscaled)} micrographs of unknown pixel size, {', '.join(unscaled)}:" in told
    else:
        assert "unknown pixel size" not in told


def test_a_micrograph_of_unknown_scale_without_whole_particles_is_not_missed(segment, micrographs, tmp_path, capsys):
    for name in "abc":
        (micrographs / f"{name}.txt").write_text("[SemImageFile]\nPixelSize=2\n")
    tifffile.imwrite(micrographs / "d.tif", np.arange(120 * 150, dtype=np.uint16).reshape(120, 150) // 150)
    segment()
    assert "unknown pixel size" not in capsys.readouterr().err
