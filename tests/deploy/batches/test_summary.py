import csv

import pytest

from sempre.deploy.batches.summary import COLUMNS, Summary, read_rows


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
