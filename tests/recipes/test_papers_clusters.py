"""The settings of the light microscopy document, as a person runs them, on small renders and with small networks."""

import json
import sys

import numpy as np
import pytest
import tifffile
from omegaconf import OmegaConf
from PIL import Image

from evaluate import attention, clusters
from sempre.errors import InputError
from sempre.frozen.encoder import open_encoder
from sempre.images import read_labels
from sempre.models.backbones import read_backbone_details
from sempre.report.refinement_page import read_mask
from tests.recipes.conftest import ROOT, write_split
from tools import refine

pytestmark = pytest.mark.long

PAPERS = ROOT / "configs/papers"
HELD_OUT = ["labelled_00003", "labelled_00004"]
TINY = "random:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A folder with `renders/labelled` of five micrographs and `split.json`."""
    folder = tmp_path_factory.mktemp("papers")
    renders = ("out=renders", "labelled=5", "size=160", "workers=1")
    finished = run("data/synthesize.py", PAPERS / "clusters_renders.yaml", *renders, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    write_split(folder / "split.json", [f"labelled_0000{number}" for number in range(3)], HELD_OUT)
    return folder


@pytest.fixture(scope="module")
def unet(folder, run):
    """A run of the U-Net by its preset, much shortened."""
    small = ("width=2", "crop=64", "crops_an_epoch=8", "epochs=2", "workers=0", "split_file=split.json", "name=unet")
    preset = PAPERS / "clusters_unet.yaml"
    finished = run("finetune/unet.py", preset, "data=renders/labelled", *small, cwd=folder, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/unet"


def run_here(module, monkeypatch, folder, *arguments) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["recipe.py", *map(str, arguments)])
    module.main()


def test_colour_backbones_and_the_network_are_in_one_table(folder, unet, monkeypatch):
    small = ("data=renders/labelled", "split_file=split.json", f"backbones=[{TINY}]", "tile=96", "workers=0")
    run_here(clusters, monkeypatch, folder, PAPERS / "clusters.yaml", *small, "unets=[runs/unet]")
    summary = json.loads((folder / "runs/clusters/summary.json").read_text())
    assert list(summary["arms"]) == ["colour", "colour, patches of 8 px", TINY, "U-Net unet"]
    assert summary["arms"]["colour"]["best_iou"] > 0.25, "the stain is seen"
    assert summary["micrographs"] == HELD_OUT
    found = read_labels(folder / f"runs/clusters/random_vit_tiny_patch16_224/clusters/{HELD_OUT[0]}.tif")
    squares = found.reshape(20, 8, 20, 8)
    assert (squares == squares[:, :1, :, :1]).all(), "patches of 8 px, at the micrograph's own size"


def test_the_network_is_six_deep_and_sees_colours(unet):
    details = json.loads((unet / "fold-0/model.json").read_text())
    assert (details["input"], details["levels"]) == ("colour", 6)
    options = OmegaConf.load(unet / "config.yaml")
    assert (options.loss, options.size) == ("cross_entropy", 0)
    lines = [json.loads(line) for line in (unet / "fold-0/log.jsonl").read_text().splitlines()]
    assert not any("dice_loss" in line for line in lines)


def test_the_network_finds_again_in_a_folder_what_it_found_in_those_held_out(folder, unet, monkeypatch):
    model = f"model={unet / 'fold-0'}"
    run_here(refine, monkeypatch, folder, model, "images=renders/labelled/images", "out=refined")
    for name in HELD_OUT:
        found = read_labels(folder / f"refined/labels/{name}.tif") > 0
        np.testing.assert_array_equal(found, read_mask(unet / f"fold-0/predictions/{name}.png"))
        assert tifffile.imread(folder / f"refined/images/{name}.tif").shape == (160, 160, 3)
    tifffile.imwrite(folder / "stack.tif", np.zeros((3, 40, 40), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="is read in grey: for colours give a folder of micrographs"):
        run_here(refine, monkeypatch, folder, model, "images=stack.tif", "out=of_a_volume")


def test_reconstruction_takes_crops_and_transposed_convolutions(store, folder, run):
    small = (f"backbone={TINY}", "crop=64", "batch=2", "epochs=1", "workers=0", "panels=0", "decoder_width=16")
    preset = PAPERS / "clusters_reconstruction.yaml"
    finished = run("finetune/reconstruction.py", preset, f"store={store}", *small, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    tuned = folder / "runs/reconstruction"
    assert OmegaConf.load(tuned / "config.yaml").upsampling == "transposed"
    assert read_backbone_details(tuned / "backbone").method == "reconstruction"
    assert open_encoder(str(tuned / "backbone")).architecture == "vit_tiny_patch16_224"


def test_attention_of_every_head_is_a_channel_and_a_picture(folder, monkeypatch):
    images = ("images=renders/labelled/images", f"backbone={TINY}", "tile=96", "shown=2", "workers=0")
    run_here(attention, monkeypatch, folder, PAPERS / "clusters_attention.yaml", *images)
    found = folder / "runs/attention"
    assert len(list((found / "heads").iterdir())) == len(list((found / "pictures").iterdir())) == 5
    heads = tifffile.imread(found / "heads/labelled_00002.tif")
    assert heads.shape == (3, 160, 160) and heads.dtype == np.float32
    assert (heads >= 0).all() and (heads.std(axis=(1, 2)) > 0).all()
    assert Image.open(found / "pictures/labelled_00002.png").size == (4 * 160, 160), "the micrograph and three heads"
    assert (found / "report.html").read_text().count("<figcaption>head 2<") == 2


def test_attention_needs_a_class_token(folder, monkeypatch):
    with pytest.raises(InputError, match="random:convnextv2_atto has no class token"):
        run_here(attention, monkeypatch, folder, "images=renders/labelled", "backbone=random:convnextv2_atto")


@pytest.mark.parametrize("path", sorted(PAPERS.glob("clusters*.yaml")), ids=lambda path: path.stem)
def test_every_preset_names_its_document(path):
    assert path.read_text().startswith('# As in B. Zöngür, "Unsupervised segmentation of light microscopy images"')
