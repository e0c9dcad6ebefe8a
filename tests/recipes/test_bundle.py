"""Scoring a bundle: `evaluate/bundle.py`."""

import json

import numpy as np
import pytest
import tifffile

from evaluate.bundle import main
from sempre.deploy.segmenter import Segmenter
from sempre.images import write_labels
from tests.deploy.conftest import bright_box_model, write_bundle


@pytest.fixture
def one_square(tmp_path):
    """A labelled set of one micrograph of 1.6 nm per px with a bright square."""
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    square = np.zeros((60, 70), np.uint8)
    square[20:40, 15:45] = 1
    scale = {"imagej": True, "resolution": (1 / 1.6, 1 / 1.6), "metadata": {"unit": "nm"}}
    tifffile.imwrite(tmp_path / "set/images/a.tif", 20 + 200 * square, **scale)
    write_labels(tmp_path / "set/labels/a.tif", square)
    return tmp_path / "set"


def test_mask_ap_is_of_all_detections_and_the_pixel_size_reaches_the_model(one_square, tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path / "bundle", bright_box_model(), score_threshold=0.95, pixel_size_nm=1.6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bundle.py", f"data={one_square}", f"model={bundle}", "validation_fraction=1"])
    sizes, find_and_list = [], Segmenter.find_and_list

    def noted(segmenter, pixels, pixel_size_nm=None):
        sizes.append(pixel_size_nm)
        return find_and_list(segmenter, pixels, pixel_size_nm)

    monkeypatch.setattr(Segmenter, "find_and_list", noted)
    main()
    summary = json.loads((tmp_path / "runs/bundle/repeat-0/summary.json").read_text())["summary"]
    assert summary["predicted_instances"] == 0, "0.9 is below the threshold"
    assert summary["ap"] > 0.5
    assert sizes == [pytest.approx(1.6)]
