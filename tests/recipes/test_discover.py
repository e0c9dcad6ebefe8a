"""Frozen backbones compared and images discovered, as commands."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import tifffile

import data.prepare
import evaluate.discover
from sempre.data.shards import open_store
from sempre.errors import InputError
from sempre.images.resize import resize
from sempre.images.write import write_micrograph
from tests.recipes.conftest import ROOT

pytestmark = pytest.mark.slow
ATTO = "random:convnextv2_atto"
PRESETS = ROOT / "configs/papers"


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


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Six micrographs of 2 nm a px in one folder, `dark_0` … `light_2`; an even square, x 40 to 47 and y 64 to 71."""
    folder = tmp_path_factory.mktemp("named")
    random = np.random.default_rng(1)
    for kind, share in (("dark", 0.2), ("light", 0.8)):
        for number in range(3):
            pixels = (random.random((96, 120)) < share).astype(np.uint8) * 255
            pixels[64:72, 40:48] = 255
            write_micrograph(folder / f"{kind}_{number}.tif", pixels, pixel_size_nm=2)
    return folder


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """`recipe(module, *arguments)`: the recipe's main function, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run_here(module, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["recipe", *map(str, arguments)])
        module.main()

    return run_here


def rows_of(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_strange_image_comes_first_and_the_kinds_apart(run, pile, tmp_path):
    arguments = [f"images={pile}", "backbone=intensity", "layer=1", "clusters=2", "map=pca", "workers=1", "strangest=4"]
    finished = run("evaluate/discover.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/discovery"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 13
    assert set(summary["pooling"]) == {"mean", "top-8", "top-16", "top-32", "top-64"}
    for method in ("kmeans", "agglomerative"):
        assert summary["pooling"]["top-32"][method]["ari"] == 1
    assert summary["methods_ari"] == 1
    rows = rows_of(folder / "images.csv")
    assert rows[0]["image"] == "dark/blank.tif"
    assert all(row["kmeans"] == row["agglomerative"] for row in rows), "the same clusters have the same numbers"
    assert [float(row["distance"]) for row in rows] == sorted((float(row["distance"]) for row in rows), reverse=True)
    page = (folder / "report.html").read_text()
    assert page.count("<figure><img") == 1 + 6 + 6 + 2 * 2, "strangest, cells of strange and typical ones, clusters"
    assert "ARI, K-means" in page
    assert "ARI, agglomerative" in page
    again = run("evaluate/discover.py", *arguments, "k=400", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("error: k=400 is more than the 144 cells of")
    assert "Traceback" not in again.stderr


INTENSITY = ("backbone=intensity", "layer=1", "clusters=2", "map=pca", "workers=0", "k=4", "compared_ks=[4]")


def test_the_strongest_cell_is_where_it_lies(recipe, named, tmp_path):
    """The grey levels of an even cell are in one bin: no norm is larger."""
    recipe(evaluate.discover, f"images={named}", *INTENSITY, "labels_from=prefix", "bulk_label=dark")
    folder = tmp_path / "runs/discovery"
    rows = rows_of(folder / "cells.csv")
    assert len(rows) == 6 * 4
    for first in rows[::4]:
        assert first["rank"] == "1"
        assert [float(first[f"{name}_px"]) for name in ("x", "y", "width", "height")] == [44, 68, 8, 8]
        assert [float(first[f"{name}_nm"]) for name in ("x", "y", "width", "height")] == [88, 136, 16, 16]
    images = rows_of(folder / "images.csv")
    assert {row["label"] for row in images[:3]} == {"light"}, "the bulk is those that are labelled dark"
    by_label = [row["distance"] for row in images]
    listed = "bulk_images=[dark_0.tif,dark_1.tif,dark_2.tif]"
    recipe(evaluate.discover, f"images={named}", *INTENSITY, "labels_from=prefix", listed)
    assert [row["distance"] for row in rows_of(folder / "images.csv")] == by_label
    for wrong, message in (
        ("bulk_label=grey", "no image has the label bulk_label=grey: there are dark, light"),
        ("bulk_images=[dark_7.tif]", "bulk_images names dark_7.tif, which is not in"),
        ("unit=patches", "unit=patches needs a store"),
        ("methods=[]", "is empty: give at least one"),
        ("methods=[kmeans,kmeans]", "must name each method once"),
    ):
        with pytest.raises(InputError, match=message):
            recipe(evaluate.discover, f"images={named}", *INTENSITY, "labels_from=prefix", wrong)


def test_patches_of_shards_and_the_way_back_to_their_micrographs(recipe, named, tmp_path):
    """Kept at half their size, so that places in the file are twice those in the store."""
    for shard in (1, 2):
        options = [f"images={named}", f"store=shards/{shard}.h5", f"shard={shard}/2", "scale=0.5", "patch_size=32"]
        recipe(data.prepare, PRESETS / "frozen_discovery_store.yaml", *options, "patches=3", "workers=1")
    recipe(evaluate.discover, "images=shards", *INTENSITY, "unit=patches", "drawn=2")
    folder = tmp_path / "runs/discovery"
    store = open_store("shards")
    rows = rows_of(folder / "patches.csv")
    assert len(rows) == 6 * 3
    for row in rows:
        assert row["image"].startswith(row["label"])
        assert (float(row["width_px"]), float(row["height_nm"])) == (64, 128)
        x, y = (int(float(row[name])) for name in ("x_px", "y_px"))
        assert float(row["x_nm"]) == 2 * x
        halved = resize(tifffile.imread(named / row["image"]).astype(np.float32), 0.5)
        patch = store.read_patch(int(row["patch"]))
        np.testing.assert_allclose(patch, halved[y // 2 : y // 2 + 32, x // 2 : x // 2 + 32], atol=1)
        cells = [cell for cell in rows_of(folder / "cells.csv") if cell["patch"] == row["patch"]]
        assert len(cells) == 4
        for cell in cells:
            assert x < float(cell["x_px"]) < x + 64
            assert y < float(cell["y_px"]) < y + 64
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["unit"] == "patches"
    assert summary["pooling"]["top-4"]["kmeans"]["ari"] == 1, "of labels that the store took from prefixes"
    page = (folder / "report.html").read_text()
    assert "Where the strangest patches lie" in page


def test_the_preset_of_the_document(recipe, labelled_set, tmp_path):
    """With a small network of random weights in the place of DINOv2's."""
    for number, file in enumerate(sorted((labelled_set / "images").iterdir())):
        (tmp_path / "rendered").mkdir(exist_ok=True)
        shutil.copyfile(file, tmp_path / f"rendered/{'oxide' if number % 2 else 'steel'}_{number}.tif")
    preset = PRESETS / "frozen_discovery.yaml"
    recipe(evaluate.discover, preset, "images=rendered", "backbone=random:vit_tiny_patch16_224", "clusters=2")
    folder = tmp_path / "runs/frozen_discovery"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["pooling"]) == {"mean", "class", "top-8", "top-16", "top-32", "top-64"}
    assert summary["read_out"] == "layer 12 of 12, 16 px"
    assert summary["percentiles"] == [1, 99]
    assert {row["label"] for row in rows_of(folder / "images.csv")} == {"oxide", "steel"}
    assert {float(cell["width_px"]) for cell in rows_of(folder / "cells.csv")} == {round(16 * 192 / 224, 2)}


def test_backbones_in_one_table(run, labelled_set, pile, tmp_path):
    arguments = [f"data={labelled_set}", f"backbones=[intensity,{ATTO}@0]", "layer=1", "workers=0", "patches=100"]
    for recipe in ("knn", "linear"):
        finished = run(f"evaluate/{recipe}.py", *arguments, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        summary = json.loads((tmp_path / f"runs/{recipe}/summary.json").read_text())
        rows = summary["backbones"]
        assert list(rows) == ["intensity", f"{ATTO}@0"]
        assert summary["read_out"] == {"intensity": "layer 2 of 4, 8 px", f"{ATTO}@0": "layer 1 of 4, 4 px"}
        assert all(row["cells: accuracy"] > 0.6 for row in rows.values()), "particles are told from background"
