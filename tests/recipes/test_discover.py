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
    """Twelve micrographs of black and white px in two subfolders, mostly black and mostly white; one is all black."""
    folder = tmp_path_factory.mktemp("pile")
    random = np.random.default_rng(0)
    for kind, share in (("dark", 0.2), ("light", 0.8)):
        (folder / kind).mkdir()
        for number in range(6):
            white = random.random((96, 96)) < share
            tifffile.imwrite(folder / kind / f"{number}.tif", white.astype(np.uint8) * 255)
    tifffile.imwrite(folder / "dark/blank.tif", np.zeros((96, 96), np.uint8))
    return folder


def test_the_strange_image_comes_first_and_the_kinds_apart(run, pile, tmp_path):
    arguments = [f"images={pile}", "backbone=intensity", "layer=1", "clusters=2", "map=pca", "workers=1", "strangest=4"]
    finished = run("evaluate/discover.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/discovery"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 13
    assert set(summary["pooling"]) == {"mean", "top-8", "top-16", "top-32", "top-64"}
    assert summary["pooling"]["top-32"]["ari"] == 1
    with (folder / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["image"] == "dark/blank.tif"
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
