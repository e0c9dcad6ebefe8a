import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sempre.images import encode_rle, read_labels, write_labels
from sempre.metrics import aji_plus
from tests.in_process import run_here


def score(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_here("tools/score.py", *arguments, cwd=Path.cwd())


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """True and predicted label images of two micrographs."""
    draws = np.random.default_rng(0)
    for side in ("true", "pred"):
        (tmp_path / side).mkdir()
        for name in ("a", "b"):
            labels = np.kron(draws.integers(0, 4, (5, 6)), np.ones((8, 8), int))
            write_labels(tmp_path / side / f"{name}.tif", labels)
    return tmp_path / "true", tmp_path / "pred"


def test_label_images_are_scored_one_by_one_and_together(folders, tmp_path):
    true, predicted = folders
    finished = score("--true", true, "--pred", predicted, "--json", tmp_path / "out.json")
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    expected = {name: aji_plus(read_labels(true / name), read_labels(predicted / name)) for name in ("a.tif", "b.tif")}
    assert report["samples"]["a"]["aji_plus"] == pytest.approx(expected["a.tif"])
    assert report["summary"]["aji_plus"] == pytest.approx(np.mean(list(expected.values())))
    assert f"{expected['b.tif']:.3f}" in finished.stdout


def test_of_a_run_the_held_out_micrographs_are_scored_when_they_are_meant(folders, tmp_path):
    true, predicted = folders
    (predicted / "b.tif").unlink()
    refused = score("--true", true, "--pred", predicted)
    assert (
        refused.returncode == 2 and "no prediction for b (1 lack)" in refused.stderr and "--held-out" in refused.stderr
    )
    finished = score("--true", true, "--pred", predicted, "--held-out", "--json", tmp_path / "out.json")
    assert finished.returncode == 0, finished.stderr
    assert list(json.loads((tmp_path / "out.json").read_text())["samples"]) == ["a"]
    (predicted / "a.tif").rename(predicted / "c.tif")
    assert "no prediction of any" in score("--true", true, "--pred", predicted, "--held-out").stderr


def test_the_error_reduction_against_another_report(folders, tmp_path):
    true, predicted = folders
    score("--true", true, "--pred", predicted, "--json", tmp_path / "worse.json")
    finished = score("--true", true, "--pred", true, "--against", tmp_path / "worse.json")
    assert "ERR against" in finished.stdout
    assert "+100.0 %" in finished.stdout


def test_groups_are_scored_apart_and_their_errors_compared(folders, tmp_path):
    true, predicted = folders
    groups = tmp_path / "groups.csv"
    groups.write_text("a,low\nb,high\n")
    first = score("--true", true, "--pred", predicted, "--groups", groups, "--json", tmp_path / "first.json")
    assert first.returncode == 0, first.stderr
    report = json.loads((tmp_path / "first.json").read_text())
    for name, group in {"a": "low", "b": "high"}.items():
        assert report["groups"][group]["aji_plus"] == report["samples"][name]["aji_plus"]
    arguments = ("--true", true, "--pred", true, "--groups", groups, "--against", tmp_path / "first.json")
    finished = score(*arguments, "--json", tmp_path / "second.json")
    assert "+100.0 %, high +100.0 %, low +100.0 %" in finished.stdout
    reductions = json.loads((tmp_path / "second.json").read_text())["error_reduction_rate_by_group"]
    assert next(iter(reductions.values())) == pytest.approx({"high": 100.0, "low": 100.0})
    finished = score("--true", true, "--pred", true, "--groups", "magnification")
    assert finished.returncode == 2 and "give --images DIR" in finished.stderr


def test_overlapping_instances_come_as_run_lengths_with_scores(tmp_path):
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:12, 2:12] = masks[1, 8:18, 8:18] = True  # they overlap
    for side in ("true", "pred"):
        (tmp_path / side).mkdir()
        instances = [encode_rle(mask) | {"score": 0.9} for mask in masks]
        (tmp_path / side / "a.json").write_text(json.dumps({"size": [20, 20], "instances": instances}))
    finished = score("--true", tmp_path / "true", "--pred", tmp_path / "pred", "--json", tmp_path / "out.json")
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((tmp_path / "out.json").read_text())["summary"]
    assert summary["aji_plus"] == summary["ap"] == pytest.approx(1.0)


def test_what_is_missing_or_damaged_is_named(folders, tmp_path):
    true, predicted = folders
    (predicted / "b.tif").unlink()
    finished = score("--true", true, "--pred", predicted)
    assert finished.returncode == 2
    assert "has no prediction for b" in finished.stderr
    (predicted / "b.json").write_text("{}")
    finished = score("--true", true, "--pred", predicted)
    assert finished.returncode == 2
    assert "holds no run lengths" in finished.stderr
    assert "Traceback" not in finished.stderr
