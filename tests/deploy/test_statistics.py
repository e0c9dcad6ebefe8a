"""`sempre measure` and `sempre statistics` on small label images: what a user finds in the results."""

import csv
import html
import json
import re

import numpy as np
import pytest
import tifffile

from sempre.deploy.command import main

SIDE, SIZE = 160, 2.0  # px, nm per px


def draw_labels(seed, radius=7.0):
    """A label image `[160, 160]` of up to 30 discs that do not touch, some of them cut by the border."""
    random = np.random.default_rng(seed)
    labels = np.zeros((SIDE, SIDE), np.uint16)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(1, 31):
        r = radius * np.exp(0.25 * random.standard_normal())
        distance = np.hypot(y - random.uniform(0, SIDE), x - random.uniform(0, SIDE))
        if not labels[distance < r + 2].any():
            labels[distance < r] = number
    return labels


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A folder of two folders of three label images each; those in `large` are of larger particles."""
    folder = tmp_path_factory.mktemp("labels")
    for name, radius in (("small", 6.0), ("large", 9.0)):
        (folder / name).mkdir()
        for number in range(3):
            tifffile.imwrite(folder / name / f"{name}{number}.tif", draw_labels(number, radius))
    return folder


@pytest.fixture(scope="module")
def measured(labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured") / "out"
    assert run("measure", labels, "--pixel-size", "2nm", "--out", out, "--report") in (0, None)
    return out


def statistics_of(folder):
    return json.loads((folder / "statistics.json").read_text(encoding="utf-8"))


def brute_force(folder, rule):
    """Sorted diameters in nm and weights, from the pixels of the label images alone."""
    found = []
    for path in sorted(folder.rglob("*.tif")):
        image = tifffile.imread(path)
        for number in np.unique(image[image > 0]):
            rows, columns = np.nonzero(image == number)
            a, b = np.ptp(columns) + 1, np.ptp(rows) + 1
            cut = min(rows.min(), columns.min()) == 0 or max(rows.max(), columns.max()) == SIDE - 1
            weight = 1.0 if rule == "all" else 0.0 if cut else SIDE**2 / ((SIDE - a) * (SIDE - b))
            found.append((2 * np.sqrt(len(rows) / np.pi) * SIZE, weight))
    diameter, weight = np.array(sorted(found)).T
    return diameter[weight > 0], weight[weight > 0]


@pytest.mark.parametrize("rule", ["weighted", "all"])
def test_figures_are_those_of_the_pixels(measured, labels, rule):
    diameter, weight = brute_force(labels, rule)
    found = statistics_of(measured)["samples"][0][rule]
    assert found["particles"]["counted"] == len(diameter)
    half = np.searchsorted(np.cumsum(weight), weight.sum() / 2)  # D50 lies between the neighbours of this particle
    assert diameter[half - 1] - 0.01 <= found["figures"]["D50"] <= diameter[half + 1] + 0.01
    assert found["figures"]["mean"] == pytest.approx(np.average(diameter, weights=weight), rel=1e-3)
    volume_mean = (weight * diameter**4).sum() / (weight * diameter**3).sum()
    assert found["figures"]["D[4,3]"] == pytest.approx(volume_mean, rel=1e-3)


def test_the_page_says_rule_calibration_and_figures_of_both_rules(measured):
    page = html.unescape((measured / "report.html").read_text(encoding="utf-8"))
    assert "Miles-Lantuéjoul" in page and "cut particles left out, the others weighted" in page
    assert "all particles, as they are visible" in page
    assert "option; relative standard uncertainty 1.73%" in page and "assum" in page
    assert "ISO 13322" not in page
    row = re.search(r"<tr><td>D50 by number \(median\) \(nm\)</td>(.*?)</tr>", page)
    assert row is not None
    cells = re.findall(r"<td>([\d.]+) \(([\d.]+) to ([\d.]+)\)</td>", row[1])
    sample = statistics_of(measured)["samples"][0]
    assert len(cells) == 2
    for cell, rule in zip(cells, ("weighted", "all"), strict=True):
        interval = sample[rule]["intervals"]["D50"]
        wanted = [interval[name] for name in ("value", "low", "high")]
        assert [float(text) for text in cell] == pytest.approx(wanted, abs=0.51)


def test_the_workbook_holds_the_numbers_of_the_json(measured):
    openpyxl = pytest.importorskip("openpyxl")
    sheet = openpyxl.load_workbook(measured / "report.xlsx", read_only=True)["figures"]
    rows = list(sheet.iter_rows(min_row=2, values_only=True))
    sample = statistics_of(measured)["samples"][0]
    for rule in ("weighted", "all"):
        written = [row for row in rows if row[1] == rule]
        assert [row[4] for row in written] == pytest.approx(list(sample[rule]["figures"].values()))
        for row, name in zip(written, sample[rule]["figures"], strict=True):
            interval = sample[rule]["intervals"].get(name, {"low": None, "high": None})
            assert row[5:7] == (pytest.approx(interval["low"]), pytest.approx(interval["high"]))


def test_the_pdf_has_pages(measured):
    data = (measured / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF") and b"%%EOF" in data[-64:]
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 5


def test_joined_shards_say_what_one_run_says(measured, labels, tmp_path):
    for name in ("small", "large"):
        run("measure", labels / name, "--pixel-size", "2nm", "--out", tmp_path / name)
    assert run("statistics", tmp_path / "small", tmp_path / "large", "--out", tmp_path / "joined") in (0, None)
    one, joined = (statistics_of(folder)["samples"][0] for folder in (measured, tmp_path / "joined"))
    assert joined["micrographs"] == one["micrographs"] == 6
    for rule in ("weighted", "all"):
        assert joined[rule]["particles"] == pytest.approx(one[rule]["particles"])
        assert joined[rule]["figures"] == pytest.approx(one[rule]["figures"])


def test_each_folder_of_micrographs_is_a_sample(measured, tmp_path):
    assert run("statistics", measured, "--by", "subfolder", "--out", tmp_path) in (0, None)
    value = statistics_of(tmp_path)
    d50 = {sample["name"]: sample["weighted"]["figures"]["D50"] for sample in value["samples"]}
    assert sorted(d50) == ["large", "small"] and d50["large"] > 1.2 * d50["small"]
    (compared,) = value["comparisons"]
    assert {compared["first"], compared["second"]} == {"large", "small"}
    assert "Comparison" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_csv_says_which_micrograph_is_of_which_sample(measured, tmp_path):
    with (tmp_path / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [("micrograph", "sample"), ("small0.tif", "A"), ("small1.tif", "A"), ("large2", "B")]
        csv.writer(file).writerows(rows)
    arguments = ("statistics", measured, "--groups", tmp_path / "groups.csv", "--out", tmp_path / "out")
    assert run(*arguments) in (0, None)
    assert {s["name"]: s["micrographs"] for s in statistics_of(tmp_path / "out")["samples"]} == {"A": 2, "B": 1}


def test_without_a_pixel_size_sizes_are_in_px(labels, tmp_path):
    assert run("measure", labels / "small", "--out", tmp_path / "out") in (0, None)
    sample = statistics_of(tmp_path / "out")["samples"][0]
    assert sample["unit"] == "px" and "share_below_100_nm" not in sample["weighted"]
    diameter, _ = brute_force(labels / "small", "all")
    assert sample["all"]["figures"]["mean"] == pytest.approx(diameter.mean() / SIZE, rel=1e-3)


@pytest.mark.parametrize("size", ["2", "nm", "0nm", "-1nm", "2 parsec", "nan nm", "2x0nm"])
def test_a_wrong_pixel_size_is_one_line(labels, tmp_path, capsys, size):
    assert run("measure", labels, f"--pixel-size={size}", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and "--pixel-size" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()
