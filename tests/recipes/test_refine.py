"""Heat maps refined with the settings of the thesis, on volumes of its form; and the product on a new volume."""

import json

import numpy as np
import pytest

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.frozen.refinement import load_refiner, spread_of
from sempre.images import read_labels
from sempre.images.volume import open_volume
from sempre.metrics import dice
from sempre.report.refinement_page import read_mask
from tests.recipes.conftest import ROOT

pytestmark = pytest.mark.slow

TINY = ("slices=2", "skip=1", "size=0", "crop=80", "crops_an_epoch=4", "epochs=2", "width=4", "points=5", "margin=2")


@pytest.fixture(scope="module")
def refined(bone, run, tmp_path_factory):
    """Of three samples each is left out twice, by two seeds. New volumes have no points of their own: heat=fitted."""
    folder = tmp_path_factory.mktemp("refined")
    preset = ROOT / "configs/papers/prototypes_unet.yaml"
    arguments = (f"data={bone}", "backbone=random:convnextv2_atto", "layer=0", "repeats=2", "heat=fitted", *TINY)
    finished = run("finetune/unet.py", preset, *arguments, cwd=folder, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/unet", finished.stdout


def test_masks_are_scored_before_and_after_on_the_same_folds_by_several_seeds(refined):
    folder, printed = refined
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["folds"]) == {"A", "C", "F"}
    assert len(summary["repeats"]) == 2
    labelled = LabelledSet(folder / "slices", percentiles=(5.0, 95.0), components=None)
    for repeat, scores in enumerate(summary["repeats"]):
        for number, fold in enumerate(scores.values()):
            assert fold["threshold"] in (0.2, 0.4, 0.6, 0.8)
            assert set(fold["heat_map"]) == set(fold["samples"])
            part = folder / (f"fold-{number}-repeat-1" if repeat else f"fold-{number}")
            for name in fold["samples"]:
                true = labelled.read(labelled.names.index(name)).foreground
                for side, masks in (("samples", "predictions"), ("heat_map", "heat_map")):
                    assert fold[side][name]["dice"] == dice(true, read_mask(part / masks / f"{name}.png"))
            share = np.mean([read_mask(part / f"heat_map/{name}.png").mean() for name in fold["samples"]])
            assert share == pytest.approx(0.1, abs=0.01), "10 %"
    weights = [(folder / f"{part}/model.safetensors").read_bytes() for part in ("fold-0", "fold-0-repeat-1")]
    assert weights[0] != weights[1]
    assert summary["refined"] == spread_of(summary["repeats"], "samples")
    before = [
        [sample["dice"] for fold in scores.values() for sample in fold["heat_map"].values()]
        for scores in summary["repeats"]
    ]
    assert summary["heat_map"]["dice"]["mean"] == pytest.approx(np.mean(before))
    assert summary["heat_map"]["dice"]["std_draws"] == pytest.approx(np.std(np.mean(before, axis=1), ddof=1))
    assert f"before, Dice {summary['heat_map']['dice']['mean']:.3f}" in printed
    page = (folder / "report.html").read_text()
    assert page.count(", worst: ") == page.count(", best: ") >= 3


def test_the_refined_network_segments_a_new_volume_as_it_did_those_held_out(refined, bone, run):
    folder, _ = refined
    arguments = (
        f"model={folder / 'fold-0'}",
        f"images={bone / 'A.ims'}",
        "channel=-2",
        "skip=1",
        "slices=2",
        "out=new",
    )
    finished = run("tools/refine.py", *arguments, cwd=folder.parents[1], OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    out = folder.parents[1] / "new"
    for name in ("A_0002", "A_0004"):
        held_out = read_mask(folder / f"fold-0/predictions/{name}.png")
        found = read_labels(out / f"labels/{name}.tif") > 0
        assert (found != held_out).mean() < 0.02, "slices are normalised once more when they are written"
    volume = open_volume(out / "volumes/A.ome.tif")
    assert (volume.slices, volume.shape) == (2, (72, 80))
    assert volume.slice_distance_nm == pytest.approx(200.0), "two of four slices"
    assert "µm³" in finished.stdout


def test_a_model_is_refused_without_its_files_and_with_another_backbone(refined):
    folder, _ = refined
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load_refiner(folder)
    with pytest.raises(InputError, match=r"^(?!.*describes no).*with another backbone than random:convnextv2_femto"):
        load_refiner(folder / "fold-0", "random:convnextv2_femto")
