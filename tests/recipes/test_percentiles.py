"""Micrographs meet a backbone, and a model that goes on from another, with the percentiles that it was trained with."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import timm
from accelerate.state import AcceleratorState

import evaluate.attention
import evaluate.click
import evaluate.clusters
import evaluate.discover
import evaluate.insides
import evaluate.knn
import evaluate.linear
import evaluate.prototypes
import evaluate.transfer
import finetune.dense
import finetune.mask_rcnn
import finetune.reconstruction
import finetune.unet
import tools.refine
from sempre.data.labelled import LabelledSet
from sempre.data.store import Store
from sempre.data.volume_slices import VolumeSource
from sempre.errors import InputError
from sempre.frozen import tasks
from sempre.models.backbones import BackboneDetails, read_backbone_details, save_backbone
from sempre.models.unet import UNet
from sempre.models.weight_files import save_weights
from sempre.training import fine_tuning_run
from sempre.training.pretraining_run import PretrainingOptions, PretrainingRun

ATTO = "convnextv2_atto"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def backbone(tmp_path):
    """A backbone that was pretrained on 2nd to 98th percentiles."""
    network = timm.create_model(ATTO, in_chans=1, num_classes=0)
    normalisation = {"percentiles": [2, 98], "mean": 0.5, "std": 0.25}
    save_backbone(
        tmp_path / "own", network, BackboneDetails(ATTO, 1, "fcmae", "", 0.1, {}, normalisation=normalisation)
    )
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("recipe", "opened", "arguments"),
    [
        (finetune.mask_rcnn, "LabelledSet", [f"architecture={ATTO}"]),
        (finetune.dense, "LabelledSet", [f"architecture={ATTO}"]),
        (finetune.unet, "open_labelled", []),
        (evaluate.prototypes, "open_labelled", []),
        (evaluate.click, "open_slices", ["out=out", "prototypes=clicked"]),
        (evaluate.discover, "open_source", []),
        (evaluate.knn, "LabelledSet", []),
        (evaluate.linear, "LabelledSet", []),
    ],
    ids=["mask_rcnn", "dense", "unet", "prototypes", "click", "discover", "knn", "linear"],
)
def test_a_recipe_adopts_those_of_its_backbone(recipe, opened, arguments, backbone, monkeypatch, tmp_path):
    def opens(*positional, percentiles=None, **_):
        raise InputError(
            f"opened with {percentiles or next(value for value in positional if isinstance(value, tuple))}"
        )

    several = recipe in (evaluate.knn, evaluate.linear)
    opening = tasks if several else fine_tuning_run if recipe in (finetune.mask_rcnn, finetune.dense) else recipe
    monkeypatch.setattr(opening, opened, opens)
    monkeypatch.chdir(tmp_path)
    key = "images" if recipe in (evaluate.click, evaluate.discover) else "data"
    given = f"backbones=[{backbone}]" if several else f"backbone={backbone}"
    monkeypatch.setattr(sys, "argv", ["recipe", f"{key}=my_set", given, *arguments])
    with pytest.raises(InputError, match=r"opened with \(2\.0, 98\.0\)"):
        recipe.main()


def test_a_dense_segmenter_adopts_those_of_the_model_that_it_starts_from(monkeypatch):
    monkeypatch.setattr(finetune.dense, "load_dense", lambda folder: (None, {"percentiles": [0.5, 99.5]}))
    assert finetune.dense.percentiles(finetune.dense.Options(data="", start="particles")) == (0.5, 99.5)
    given = finetune.dense.Options(data="", start="particles", percentiles=[5, 95])
    assert finetune.dense.percentiles(given) == (5.0, 95.0)
    assert finetune.dense.percentiles(finetune.dense.Options(data="")) == (1, 99)


@pytest.mark.slow
def test_clusters_show_each_backbone_its_own(backbone, labelled_set, monkeypatch, tmp_path):
    opened = []

    class Recorded(LabelledSet):
        def __init__(self, folder, percentiles, **others):
            opened.append(percentiles)
            super().__init__(folder, percentiles=percentiles, **others)

    monkeypatch.setattr(evaluate.clusters, "LabelledSet", Recorded)
    monkeypatch.chdir(tmp_path)
    options = [f"data={labelled_set}", f"backbones=[intensity,{backbone}]", "validation_fraction=0.9", "micrographs=1"]
    monkeypatch.setattr(sys, "argv", ["recipe", *options, "size=64", "shown=1", "layer=1", "workers=0"])
    evaluate.clusters.main()
    assert opened[0] == (1, 99), "of the grey values and the true masks"
    assert opened[-1] == (2, 98)


@pytest.mark.slow
def test_insides_show_each_backbone_its_own(backbone, labelled_set, monkeypatch, tmp_path):
    opened = []

    class Recorded(LabelledSet):
        def __init__(self, folder, percentiles=(1.0, 99.0), **others):
            opened.append(percentiles)
            super().__init__(folder, percentiles=percentiles, **others)

    monkeypatch.setattr(evaluate.insides, "LabelledSet", Recorded)
    monkeypatch.chdir(tmp_path)
    options = [f"data={labelled_set}", f"backbones=[{backbone},random:{ATTO}]", "micrographs=[field_0]"]
    monkeypatch.setattr(sys, "argv", ["recipe", *options])
    evaluate.insides.main()
    assert opened[-2:] == [(2, 98), (1, 99)]


@pytest.mark.slow
def test_backbones_side_by_side_on_one_set_refuse_the_one_of_others(backbone, labelled_set, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = [f"data={labelled_set}", f"backbones=[{backbone}]", "layer=1", "workers=0"]
    monkeypatch.setattr(sys, "argv", ["recipe", *options])
    with pytest.raises(InputError, match=r"by the percentiles 1 and 99, and what .* was pretrained on by 2 and 98"):
        evaluate.transfer.main()


@pytest.mark.slow
def test_clusters_without_a_backbone_refuse_a_store_of_others(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe", f"images={store}", "percentiles=[5,95]"])
    with pytest.raises(InputError, match=r"normalised by the percentiles 1 and 99, which cannot be changed to .*5"):
        evaluate.clusters.main()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_refined_network_without_a_heat_map_refuses_a_store_of_others(store, tmp_path, monkeypatch):
    save_weights(UNet(1, 4, 2), tmp_path / "model.safetensors")
    details = {"input": "raw", "width": 4, "levels": 2, "percentiles": [5, 95]}
    (tmp_path / "model.json").write_text(json.dumps(details))
    monkeypatch.setattr(sys, "argv", ["recipe", f"model={tmp_path}", f"images={store}", f"out={tmp_path / 'out'}"])
    with pytest.raises(InputError, match=r"percentiles 1 and 99, and the micrographs that .* learnt from by 5 and 95"):
        tools.refine.main()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_attention_refuses_a_store_of_others(store, tmp_path, monkeypatch):
    vit = "vit_tiny_patch16_224"
    network = timm.create_model(vit, in_chans=1, num_classes=0, dynamic_img_size=True)
    normalisation = {"percentiles": [2, 98], "mean": 0.5, "std": 0.25}
    save_backbone(tmp_path / "own", network, BackboneDetails(vit, 1, "dino", "", 0.1, {}, normalisation=normalisation))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe", f"images={store}", f"backbone={tmp_path / 'own'}"])
    with pytest.raises(InputError, match="normalised by the percentiles 1 and 99"):
        evaluate.attention.main()


def test_pretraining_says_those_of_its_store(tmp_path):
    class Prepared:
        percentiles, fingerprint = (2.0, 98.0), "f"

    options = PretrainingOptions(name="run", architecture=ATTO, store="store.h5")
    run = PretrainingRun(options, tmp_path / "run", Prepared(), None, None, None, None)
    run.export(timm.create_model(ATTO, in_chans=1, num_classes=0), "fcmae", 0.1)
    assert read_backbone_details(tmp_path / "run/backbone").percentiles == (2, 98)


@pytest.mark.slow
def test_reconstruction_refuses_a_store_of_others(backbone, store, tmp_path, monkeypatch):
    assert Store(store).percentiles == (1, 99)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe", f"store={store}", f"backbone={backbone}", "batch=2"])
    with pytest.raises(InputError, match=r"prepared with percentiles=\[1.0, 99.0\].*pretrained with \[2.0, 98.0\]"):
        finetune.reconstruction.main()


@pytest.fixture
def sparse(tmp_path) -> Path:
    """A sparse field: few bright particles on an even ground, which our percentiles are widened for."""
    pixels = np.random.default_rng(0).normal(60, 3, (256, 256)).round().astype(np.uint8)
    pixels[100:108, 60:72] = 230
    (tmp_path / "sparse").mkdir()
    tifffile.imwrite(tmp_path / "sparse/a_1.tif", pixels)
    tifffile.imwrite(tmp_path / "sparse/a_2.tif", pixels.T)
    return tmp_path / "sparse"


def plainly(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """As NumPy has percentiles, to 8 bit."""
    darkest, brightest = np.percentile(pixels, (low, high))
    return np.clip(np.rint((pixels - darkest) / (brightest - darkest) * 255), 0, 255)


def test_plain_percentiles_are_numpys_in_a_store_and_in_slices(sparse, run, tmp_path):
    finished = run("data/prepare.py", f"images={sparse}", "store=own.h5", "workers=1", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    preset = ROOT / "configs/papers/frozen_discovery_store.yaml"
    finished = run("data/prepare.py", preset, f"images={sparse}", "store=plain.h5", "workers=1", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    pixels = tifffile.imread(sparse / "a_1.tif")
    kept = {name: Store(tmp_path / f"{name}.h5").read(0) for name in ("own", "plain")}
    assert np.abs(kept["plain"] - plainly(pixels, 1, 99)).max() <= 1
    assert np.abs(kept["own"] - plainly(pixels, 1, 99)).mean() > 20  # the ground's noise does not fill the range
    volume = VolumeSource([write_volume(tmp_path / "v.tif", pixels)], 0, 0, (5, 95), 0, plain=True)
    assert np.abs(volume.read(0)[0] - plainly(pixels, 5, 95)).max() <= 1


def test_a_store_is_not_gone_on_with_by_other_percentiles_nor_taken_for_plain(sparse, run, tmp_path):
    assert run("data/prepare.py", f"images={sparse}", "store=own.h5", "workers=1", cwd=tmp_path).returncode == 0
    again = ("data/prepare.py", f"images={sparse}", "store=own.h5", "workers=1", "plain_percentiles=true")
    finished = run(*again, cwd=tmp_path)
    assert finished.returncode == 2 and "plain_percentiles=None, not True" in finished.stderr
    looked = ("evaluate/discover.py", "images=own.h5", "backbone=intensity", "plain_percentiles=true")
    finished = run(*looked, cwd=tmp_path)
    assert finished.returncode == 2 and "prepare it with plain_percentiles=true" in finished.stderr


def write_volume(path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, np.stack([pixels, pixels]), imagej=True, metadata={"axes": "ZYX"})
    return path
