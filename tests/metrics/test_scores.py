import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.images import encode_rle, encode_rle_of_crop
from sempre.metrics import (
    average_precision,
    compare_arms,
    error_reduction_rate,
    label_overlap,
    score_sample,
    summarise,
    summarise_repeats,
    with_spread,
)


def test_error_reduction_of_known_cases():
    assert error_reduction_rate(0.4, 0.3) == pytest.approx(25.0)
    assert error_reduction_rate(0.2, 0.3) == pytest.approx(-50.0)
    assert error_reduction_rate(0.0, 0.0) == 0.0
    assert error_reduction_rate(0.0, 0.1) == -math.inf


@given(st.floats(0.01, 1), st.floats(0, 1))
def test_the_reduced_error_is_what_is_left(baseline, error):
    left = baseline * (1 - error_reduction_rate(baseline, error) / 100)
    assert left == pytest.approx(error, abs=1e-9)


def test_every_arm_is_compared_with_every_other():
    table = compare_arms({"none": 0.5, "FCMAE": 0.6, "Otsu": 0.4})
    assert table["FCMAE"] == pytest.approx({"none": 20.0, "Otsu": 100 / 3})
    assert table["none"]["FCMAE"] == pytest.approx(-25.0)


def test_summaries_are_means_and_sums():
    empty, some = np.zeros((8, 8), int), np.eye(8, dtype=int)
    samples = {"a": score_sample(label_overlap(some, some)), "b": score_sample(label_overlap(some, empty))}
    summary = summarise(samples)
    assert summary["aji_plus"] == 0.5
    assert (summary["samples"], summary["correct"], summary["missed"]) == (2, 1, 1)
    repeats = summarise_repeats([summary, summary | {"aji_plus": 0.7}])
    assert repeats["aji_plus"] == pytest.approx({"mean": 0.6, "std": math.sqrt(0.02)})
    assert summarise_repeats([summary])["aji_plus"]["std"] == 0.0


def test_counts_by_size_are_summed_over_samples_and_kept_apart_from_the_scores_of_repeats():
    image = np.zeros((20, 20), int)
    image[2:18, 2:18] = 3  # 16x16 px, a disc of 18 px
    nothing = np.zeros_like(image)
    samples = {"a": score_sample(label_overlap(image, image)), "b": score_sample(label_overlap(image, nothing))}
    summary = summarise(samples)
    assert summary["size_bins"]["edges_px"] == [8, 16, 32, 64, 128, 256]
    assert summary["size_bins"]["true"] == [0, 0, 2, 0, 0, 0, 0]
    assert summary["size_bins"]["found"] == [0, 0, 1, 0, 0, 0, 0]
    assert json.loads(json.dumps(summary)) == summary
    scores = summarise_repeats([summary, summary])
    assert "size_bins" not in scores
    assert all(set(score) == {"mean", "std"} for score in scores.values())


def test_average_precision_of_known_cases():
    pytest.importorskip("pycocotools")
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 2:12, 2:12] = masks[1, 15:30, 15:30] = True
    true = [encode_rle(mask) for mask in masks]
    nowhere = encode_rle(np.eye(32, dtype=bool))
    assert average_precision({"a": true}, {"a": (true, [0.9, 0.8])})["ap"] == pytest.approx(1.0)
    assert average_precision({"a": true}, {"a": ([nowhere, *true], [0.95, 0.9, 0.8])})["ap50"] < 0.75
    # Half of the instances are found, without an error: precision 1 up to recall 0.5 of the 101 recall levels.
    assert average_precision({"a": true}, {"a": (true[:1], [0.9])})["ap50"] == pytest.approx(51 / 101)
    assert average_precision({"a": true}, {"a": ([], [])})["ap"] == 0.0
    assert math.isnan(average_precision({"a": []}, {"a": (true, [0.9, 0.8])})["ap"])


def test_one_repeat_shows_no_deviation():
    one, two = summarise_repeats([{"aji_plus": 0.5}]), summarise_repeats([{"aji_plus": 0.5}, {"aji_plus": 0.7}])
    assert with_spread(one["aji_plus"]) == "0.500"
    assert with_spread(two["aji_plus"]) == "0.600 ± 0.141"


def test_average_precision_counts_all_detections_of_a_crowd():
    pytest.importorskip("pycocotools")
    squares = [(y, x) for y in range(0, 60, 3) for x in range(0, 159, 3)]
    masks = [encode_rle_of_crop(np.ones((2, 2), bool), y, x, (60, 160)) for y, x in squares]
    assert len(masks) == 1060
    found = {"a": (masks, np.linspace(1, 0.5, len(masks)).tolist())}
    assert average_precision({"a": masks}, found)["ap"] == pytest.approx(1.0)
