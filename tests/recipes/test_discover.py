"""Frozen backbones compared and images discovered, as commands."""

import csv
import json

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.slow
ATTO = "random:convnextv2_atto"


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    """Twelve micrographs of two kinds of texture in two subfolders, and one that is blank."""
    folder = tmp_path_factory.mktemp("pile")
    random = np.random.default_rng(0)
    for kind, coarse in (("fine", 1), ("coarse", 8)):
        (folder / kind).mkdir()
        for number in range(6):
            cells = random.integers(0, 255, (96 // coarse, 96 // coarse), dtype=np.uint8)
            tifffile.imwrite(folder / kind / f"{number}.tif", cells.repeat(coarse, 0).repeat(coarse, 1))
    tifffile.imwrite(folder / "fine/blank.tif", np.zeros((96, 96), np.uint8))
    return folder


def test_the_strange_image_comes_first_and_the_kinds_apart(run, pile, tmp_path):
    arguments = [f"images={pile}", f"backbone={ATTO}", "layer=1", "clusters=3", "map=pca", "workers=1", "strangest=4"]
    finished = run("evaluate/discover.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/discovery"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 13
    assert set(summary["pooling"]) == {"mean", "top-8", "top-16", "top-32", "top-64"}
    assert summary["pooling"]["top-32"]["ari"] > 0.5
    with (folder / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["image"] == "fine/blank.tif"
    assert [float(row["distance"]) for row in rows] == sorted((float(row["distance"]) for row in rows), reverse=True)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") + page.count("data:image/jpeg") >= 4
    again = run("evaluate/discover.py", *arguments, "k=400", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("error: k=400 is more than the 144 cells of")
    assert "Traceback" not in again.stderr


def test_backbones_in_one_table(run, labelled_set, pile, tmp_path):
    arguments = [f"data={labelled_set}", f"backbones=[intensity,{ATTO}]", "layer=1", "workers=0", "patches=100"]
    for recipe in ("knn", "linear"):
        finished = run(f"evaluate/{recipe}.py", *arguments, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        rows = json.loads((tmp_path / f"runs/{recipe}/summary.json").read_text())["backbones"]
        assert list(rows) == ["intensity", ATTO]
        assert all(row["cells: accuracy"] > 0.6 for row in rows.values()), "particles are told from background"
