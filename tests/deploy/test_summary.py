import csv
from dataclasses import replace

import numpy as np
import pytest

from sempre.deploy.segmenter import Segmentation
from sempre.deploy.summary import COLUMNS, Summary, read_rows, summarise
from sempre.segmentation.particles import measure_particles


@pytest.fixture
def add(tmp_path):
    """Add the row of a micrograph, whose label image is there."""

    def add(summary, results, **columns):
        (tmp_path / f"{results}_instances.tif").write_bytes(b"labels")
        (tmp_path / f"{results}.tif").write_bytes(b"pixels")
        place = str(tmp_path / f"{results}.tif")
        summary.add({"micrograph": f"{results}.tif", "results": results, "file": place, **columns})

    return add


def names(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [row["micrograph"] for row in csv.DictReader(file)]


def test_a_row_is_on_disk_as_soon_as_it_is_added(tmp_path, add):
    summary = Summary(tmp_path / "summary.csv")
    for count, results in enumerate(("b", "a"), start=1):
        add(summary, results)
        assert names(tmp_path / "summary.csv") == ["b.tif", "a.tif"][:count]
    add(summary, "b", particles="2")
    assert summary.close() is None
    assert names(tmp_path / "summary.csv") == ["a.tif", "b.tif"]
    assert Summary(tmp_path / "summary.csv").find("B")["particles"] == "2"


def test_failures_and_results_that_are_gone_are_forgotten(tmp_path, add):
    summary = Summary(tmp_path / "summary.csv")
    for results in ("a", "b", "c"):
        add(summary, results, error="damaged" if results == "c" else "")
    (tmp_path / "a_instances.tif").unlink()
    (tmp_path / "b.tif").unlink()
    again = Summary(tmp_path / "summary.csv")
    assert set(again.rows) == {"b"} and again.recorded() == {}, "a name is free once its micrograph is gone"


def test_a_row_waits_while_the_file_is_held(tmp_path, add, like_windows):
    summary = Summary(tmp_path / "summary.csv")
    like_windows.held.add(tmp_path / "summary.csv")
    add(summary, "a")
    assert names(tmp_path / "summary.csv") == []
    like_windows.held.clear()
    add(summary, "b")
    assert names(tmp_path / "summary.csv") == ["a.tif", "b.tif"]


def test_names_of_any_language_come_back(tmp_path, add):
    summary = Summary(tmp_path / "summary.csv")
    add(summary, "Übersicht, β 粒子")
    (row,) = read_rows(tmp_path / "summary.csv")
    assert row["results"] == "Übersicht, β 粒子" and list(row) == list(COLUMNS)


def squares(*places, side=10, shape=(60, 80)):
    labels = np.zeros(shape, np.int32)
    for number, (row, column) in enumerate(places, start=1):
        labels[max(row, 0) : row + side, max(column, 0) : column + side] = number
    return labels


@pytest.mark.parametrize("size", [None, (2.5, 2.5), (2.5, 10.0), (8.0, 2.0)])
def test_medians_are_of_whole_particles_and_their_true_sizes(size):
    labels = squares((-6, 20), (20, -7), (20, 40), (54, 60))  # one of four is whole
    particles = measure_particles(labels, np.ones(4), size)
    x, y = size or (None, None)
    row = summarise(Segmentation(labels, particles, x, [], y), labels.size)
    assert (row["particles"], row["particles_cut"]) == ("4", "3")
    assert float(row["median_equivalent_diameter_px"]) == pytest.approx(np.sqrt(400 / np.pi), rel=1e-5)
    if size is None:
        assert not {"pixel_size_nm", "median_equivalent_diameter_nm"} & set(row)
    else:
        assert (float(row["pixel_size_nm"]), float(row["pixel_size_y_nm"])) == size
        assert float(row["median_equivalent_diameter_nm"]) == pytest.approx(np.sqrt(400 * x * y / np.pi), rel=1e-5)


def test_no_whole_particle_has_no_median():
    labels = squares((-6, 20), (54, 60))
    row = summarise(Segmentation(labels, measure_particles(labels, np.ones(2), 2.0), 2.0), labels.size)
    assert (row["particles"], row["particles_cut"]) == ("2", "2")
    assert not [name for name in row if name.startswith("median")]


def calibrated(probabilities):
    labels = squares(*[(2 + 12 * (number // 6), 2 + 13 * (number % 6)) for number in range(len(probabilities))])
    particles = measure_particles(labels, np.ones(len(probabilities)))
    particles = [replace(one, probability=value) for one, value in zip(particles, probabilities, strict=True)]
    return summarise(Segmentation(labels, particles), labels.size)


@pytest.mark.parametrize(
    ("probabilities", "doubted"),
    [
        ([0.3] * 20, True),
        ([0.9] + [0.2] * 19, True),  # one of many says nothing
        ([0.99] * 5 + [0.2] * 15, False),  # sure ones amid doubtful ones
        ([0.95], False),
        ([0.5], True),
    ],
)
def test_a_micrograph_without_sure_particles_is_doubted(probabilities, doubted):
    row = calibrated(probabilities)
    assert bool(row.get("doubt")) == doubted
    assert float(row["expected_particles"]) == pytest.approx(sum(probabilities), abs=0.06)


def test_without_a_calibration_nothing_is_doubted():
    labels = squares((20, 20))
    row = summarise(Segmentation(labels, measure_particles(labels, np.ones(1))), labels.size)
    assert not {"doubt", "expected_particles"} & set(row)
