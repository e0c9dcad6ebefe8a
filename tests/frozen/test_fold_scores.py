import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sempre.data.folds import Fold
from sempre.data.labelled import LabelledSet
from sempre.frozen.extract import ExtractionOptions
from sempre.frozen.refinement import RefinerInputs, score_fold, spread_of, summarise_folds
from sempre.frozen.tasks import labelled_source


class Bright(nn.Module):
    """As sure of a px as it is bright."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * (images - 0.5)


def test_masks_are_written_and_scored_as_they_are(tmp_path):
    labels = np.zeros((32, 40), np.uint8)
    labels[8:20, 8:30] = 1
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name in "abcd":
        shown = labels.copy()
        shown[8:14] *= name != "d"  # half of the particle is not to be seen
        Image.fromarray(200 * shown).save(tmp_path / f"set/images/{name}.png")
        Image.fromarray(labels).save(tmp_path / f"set/labels/{name}.png")
    labelled = LabelledSet(tmp_path / "set")
    source = labelled_source(labelled, np.arange(4))
    inputs = RefinerInputs(labelled, source, None, None, ExtractionOptions(), "raw", "otsu", 10.0)
    found = score_fold(Bright(), 0.4, inputs, Fold("validation", [1], [0], [2, 3]), tmp_path / "fold-0")
    assert (found["threshold"], found["fitted"], found["stopping"]) == (0.4, ["b"], ["a"])
    assert found["heat_map"] == {}
    assert found["samples"]["c"] == {"dice": 1.0, "iou": 1.0, "hd95_px": 0.0}
    assert found["samples"]["d"]["iou"] == pytest.approx(0.5)
    mask = np.asarray(Image.open(tmp_path / "fold-0/predictions/d.png")) > 0
    np.testing.assert_array_equal(mask, (labels > 0) & (np.arange(32) >= 14)[:, None])
    assert not (tmp_path / "fold-0/heat_map").exists()


def fold(heat_map: bool = True, **dices: float) -> dict:
    samples = {name: {"dice": value, "iou": value / 2, "hd95_px": 10 * value} for name, value in dices.items()}
    return {"samples": samples, "heat_map": {name: dict.fromkeys(sample, 0.1) for name, sample in samples.items()}} | (
        {} if heat_map else {"heat_map": {}}
    )


def test_deviations_are_over_the_micrographs_of_all_folds_and_over_repeats():
    repeats = [{"x": fold(a=0.5), "y": fold(b=0.2, c=0.9)}, {"x": fold(a=0.7), "y": fold(b=0.4, c=0.9)}]
    summary = summarise_folds(repeats, {"a": "low", "b": "low", "c": "high"})
    by_micrograph = [0.6, 0.3, 0.9]
    assert summary["refined"]["dice"] == pytest.approx(
        {
            "mean": 0.6,
            "std_micrographs": np.std(by_micrograph, ddof=1),
            "std_draws": np.std([1.6 / 3, 2.0 / 3], ddof=1),
        }
    )
    assert summary["scores"] == pytest.approx({"dice": 0.6, "iou": 0.3, "hd95_px": 6.0})
    assert summary["heat_map"]["dice"]["mean"] == pytest.approx(0.1)
    assert summary["micrographs"] == 3
    assert summary["folds"] == repeats[0]
    assert summary["groups"]["low"]["dice"]["mean"] == pytest.approx(0.45)
    assert summary["groups"]["high"] == spread_of(repeats, "samples", ["c"])
    assert summary["heat_map_groups"].keys() == {"low", "high"}


def test_without_heat_maps_and_groups_there_is_nothing_to_compare_with():
    summary = summarise_folds([{"x": fold(heat_map=False, a=0.5, b=0.7)}])
    assert summary["heat_map"] is None
    assert not {"groups", "heat_map_groups"} & summary.keys()
