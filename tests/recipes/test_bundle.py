"""Scoring a bundle: `evaluate/bundle.py`."""

import json

import numpy as np
import pytest
import tifffile

import evaluate.bundle
from evaluate.bundle import main
from sempre.deploy.segmenter import Segmenter
from sempre.images import write_labels
from sempre.training.scoring import score_untrained
from tests.deploy.conftest import bright_box_model, write_bundle

PIXEL_SIZES_NM = {"a": 1.6, "b": 3.2}


@pytest.fixture
def squares(tmp_path):
    """A labelled set of two micrographs of 1.6 and 3.2 nm per px with a bright square each."""
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for number, (name, pixel_size_nm) in enumerate(PIXEL_SIZES_NM.items()):
        square = np.zeros((60, 70), np.uint8)
        square[20:40, 15 : 45 + number] = 1
        scale = {"imagej": True, "resolution": (1 / pixel_size_nm,) * 2, "metadata": {"unit": "nm"}}
        tifffile.imwrite(tmp_path / f"set/images/{name}.tif", 20 + 200 * square, **scale)
        write_labels(tmp_path / f"set/labels/{name}.tif", square)
    return tmp_path / "set"


@pytest.fixture
def score(squares, tmp_path, monkeypatch):
    """`score()`: what evaluate/bundle.py makes of the set."""
    bundle = write_bundle(tmp_path / "bundle", bright_box_model(), score_threshold=0.95, pixel_size_nm=1.6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bundle.py", f"data={squares}", f"model={bundle}", "validation_fraction=1"])

    def run() -> dict:
        main()
        return json.loads((tmp_path / "runs/bundle/repeat-0/summary.json").read_text())["summary"]

    return run


def test_mask_ap_is_of_all_detections(score):
    summary = score()
    assert summary["predicted_instances"] == 0, "0.9 is below the threshold"
    assert summary["ap"] > 0.5


def test_each_micrograph_reaches_the_model_with_its_own_pixel_size(score, monkeypatch):
    seen, find_and_list = {}, Segmenter.find_and_list

    def noted(segmenter, pixels, pixel_size_nm=None):
        seen["ab"[int((pixels > 0.5).sum()) > 600]] = pixel_size_nm
        return find_and_list(segmenter, pixels, pixel_size_nm)

    def backwards(labelled, indices, *others):
        return score_untrained(labelled, indices[::-1], *others)

    monkeypatch.setattr(Segmenter, "find_and_list", noted)
    monkeypatch.setattr(evaluate.bundle, "score_untrained", backwards)
    score()
    assert seen == pytest.approx(PIXEL_SIZES_NM)


def test_what_lies_beyond_other_percentiles_reaches_a_model_that_takes_all_levels(squares, tmp_path, monkeypatch):
    for file in (squares / "images").iterdir():
        pixels = tifffile.imread(file)
        pixels[0, 0] = 255  # 1 of 4,200 px; all others are 20 or 220
        tifffile.imwrite(file, pixels)
    levels = {"percentiles": [0, 100], "low": 0, "high": 1, "scale": 1.0}
    bundle = write_bundle(tmp_path / "bundle", bright_box_model(), input=levels)
    seen, find_and_list = [], Segmenter.find_and_list

    def noted(segmenter, pixels, pixel_size_nm=None):
        seen.append(np.unique(pixels).tolist())
        return find_and_list(segmenter, pixels, pixel_size_nm)

    monkeypatch.setattr(Segmenter, "find_and_list", noted)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bundle.py", f"data={squares}", f"model={bundle}", "validation_fraction=1"])
    main()
    assert [len(found) for found in seen] == [3, 3]
