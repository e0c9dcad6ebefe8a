"""docs/sizes.md lists every column that a segmentation writes, and no other."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.deploy.command import main

PAGE = (Path(__file__).parents[2] / "docs/sizes.md").read_text(encoding="utf-8")


def listed(heading: str) -> list[str]:
    """The columns in the table under a heading of the page."""
    table = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    names = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")]
    return [name for row in names for name in row]


@pytest.fixture
def results(bright_box_bundle, tmp_path):
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40:90, 30:80] = 4000
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    arguments = ["segment", tmp_path / "a.tif", "--out", tmp_path / "out", "--model", bright_box_bundle]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--pixel-size", "2x5nm", "--format", "csv"])
    assert not ended.value.code
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("file", "heading"),
    [("a_particles.csv", "Columns of NAME_particles.csv"), ("summary.csv", "Columns of summary.csv")],
)
def test_every_column_has_its_formula(results, file, heading):
    with (results / file).open(encoding="utf-8") as opened:
        written = next(csv.reader(opened))
    assert sorted(listed(heading)) == sorted(written)


def test_units_are_those_at_the_ends_of_the_names():
    units = {"px": "px", "nm": "nm", "px2": "px²", "nm2": "nm²"}
    for line in PAGE.splitlines():
        for name in re.findall(r"`(\w+)`", line.split("|")[1]) if line.startswith("| `") else ():
            if name.rpartition("_")[2] in units:
                assert line.split("|")[2].strip() == units[name.rpartition("_")[2]], name


def test_formulas_of_the_page_give_what_is_written(results):
    (row,) = csv.DictReader((results / "a_particles.csv").open(encoding="utf-8"))
    row = {name: float(value) for name, value in row.items() if value}
    area, p, q = row["area_px2"], 2.0, 5.0
    assert row["area_nm2"] == pytest.approx(area * p * q)
    assert row["equivalent_diameter_px"] == pytest.approx(np.sqrt(4 * area / np.pi), rel=1e-5)
    assert row["equivalent_diameter_nm"] == pytest.approx(row["equivalent_diameter_px"] * np.sqrt(p * q), rel=1e-5)
    assert (row["x_nm"], row["y_nm"]) == pytest.approx((row["x_px"] * p, row["y_px"] * q))
    assert (row["box_width_nm"], row["box_height_nm"]) == (100, 250)
    assert row["circularity"] == pytest.approx(4 * np.pi * row["area_nm2"] / row["perimeter_nm"] ** 2, abs=1e-4)
    assert row["roundness"] == pytest.approx(4 * row["area_nm2"] / np.pi / row["feret_max_nm"] ** 2, abs=1e-4)
    assert row["feret_ratio"] == pytest.approx(row["feret_min_nm"] / row["feret_max_nm"], abs=1e-4)
    assert row["aspect_ratio"] == pytest.approx(row["ellipse_major_nm"] / row["ellipse_minor_nm"], abs=1e-4)
    assert row["eccentricity"] == pytest.approx(np.sqrt(1 - row["aspect_ratio"] ** -2), abs=1e-3)
    assert (row["mean_grey"], row["grey_deviation"]) == (4000, 0)
