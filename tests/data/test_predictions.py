import json

import numpy as np
import pytest
from PIL import Image

from sempre.data.labelled import LabelledSet
from sempre.images import encode_rle, read_labels, write_labels
from sempre.training.scoring import Prediction, predict_and_score, true_masks
from tests.in_process import run_here


@pytest.fixture
def overlapping(tmp_path) -> LabelledSet:
    """One micrograph of 40x40 px with two particles that overlap, as COCO annotations."""
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40).astype(np.uint8)).save(tmp_path / "a.png")
    squares = [[5, 5, 25, 5, 25, 25, 5, 25], [15, 15, 35, 15, 35, 35, 15, 35]]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [square]}
        for number, square in enumerate(squares)
    ]
    content = {"images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 40}], "annotations": annotations}
    (tmp_path / "annotations.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "particle"}]}))
    return LabelledSet(tmp_path)


def test_overlapping_truth_is_scored_instance_by_instance(overlapping, tmp_path):
    labels = np.zeros((40, 40), np.int32)
    labels[5:25, 5:25], labels[25:35, 15:35] = 1, 2
    masks = [(5, 5, np.ones((20, 20), bool)), (15, 15, np.ones((20, 20), bool))]
    prediction = Prediction(labels, masks, np.array([0.9, 0.8]))
    scores = predict_and_score(overlapping, [0], lambda *_: prediction, tmp_path / "run/predictions")
    sample = scores["samples"]["a"]
    assert (sample["true_instances"], sample["correct"]) == (2, 2)
    assert sample["aji_plus"] == pytest.approx((400 + 200) / (400 + 400), abs=0.02)
    assert scores["summary"]["ap"] > 0.9, "detections overlap as the truth does"
    np.testing.assert_array_equal(read_labels(tmp_path / "run/predictions/a.tif"), labels)


def test_average_precision_is_of_all_detections_here_and_of_the_files(overlapping, tmp_path):
    labels = np.zeros((40, 40), np.int32)
    labels[5:25, 5:25] = 1
    masks = [(5, 5, np.ones((20, 20), bool)), (15, 15, np.ones((20, 20), bool)), (0, 0, np.ones((4, 4), bool))]
    prediction = Prediction(labels, masks, np.array([0.9, 0.3, 0.1]))  # the threshold was 0.5
    run = tmp_path / "run/predictions"
    scores = predict_and_score(overlapping, [0], lambda *_: prediction, run)
    assert scores["samples"]["a"]["predicted_instances"] == 1
    assert scores["summary"]["ap"] > 0.9, "the second particle was detected too"

    (tmp_path / "true").mkdir()
    truth = [encode_rle(mask) for mask in true_masks(overlapping.read(0))]
    (tmp_path / "true/a.json").write_text(json.dumps({"size": [40, 40], "instances": truth}))
    command = ["--pred", run, "--true", tmp_path / "true", "--json", tmp_path / "s"]
    assert run_here("tools/score.py", *command, cwd=tmp_path).returncode == 0
    report = json.loads((tmp_path / "s").read_text())
    assert report["summary"] == scores["summary"]


def test_label_images_are_scored_without_average_precision(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.eye(16, dtype=np.uint8) * 200).save(tmp_path / "images/a.png")
    write_labels(tmp_path / "labels/a.tif", np.eye(16, dtype=int) * 7)
    seen = []

    def predict(pixels: np.ndarray, index: int) -> Prediction:
        assert index == 0
        seen.append(pixels)
        return Prediction((pixels > 0.5).astype(np.int32))

    scores = predict_and_score(LabelledSet(tmp_path), [0], predict, tmp_path / "run/predictions")
    assert scores["summary"]["aji_plus"] == 1.0
    assert "ap" not in scores["summary"]
    assert seen[0].dtype == np.float32
    assert seen[0].max() <= 1
