"""The report of a study shows every figure, and what is missing as missing."""

import csv
import json
from pathlib import Path

import pytest

from sempre.report.study_page import Study, write_study_report
from sempre.study.design import StudyOptions, plan_cells
from sempre.study.results import Result

NAMES = [f"micrograph_{number}" for number in range(6)]
OPTIONS = StudyOptions(
    arms=["none", "fcmae"],
    methods=["mask_rcnn"],
    image_exponents=[-1],
    label_shares=[0.5],
    fcmae=["epochs=10", "batch=8", "warmup_epochs=1", "validate_every=5"],
    mask_rcnn=["epochs=4", "batch=2"],
)


def scores(value: float) -> dict:
    counts = dict.fromkeys(
        ("true_instances", "predicted_instances", "paired", "correct", "missed", "false_positives"), 2
    )
    bins = {key: [2] for key in ("true", "found", "false_positives")}
    return {"aji_plus": value, "aji": value, "panoptic_quality": value, **counts, "size_bins": bins}


def sample_scores(cell) -> dict[str, dict]:
    """FCMAE gains with its images, and the second repeat a little."""
    value = 0.5 if cell.arm == "none" else 0.8 - 0.4 * (cell.images or 32) ** -0.5
    return {name: scores(value + 0.01 * cell.seed + number / 100) for number, name in enumerate(NAMES)}


@pytest.fixture
def study(tmp_path) -> Study:
    """All cells finished but both repeats of the arm without pretraining, which failed."""
    cells = plan_cells(OPTIONS, Path("my_set"), Path("store.h5"), images=40, labelled=20)
    results = []
    for cell in cells:
        failed = cell.arm == "none" and not cell.labels
        samples = {} if failed or cell.stage == "pretrain" else sample_scores(cell)
        results.append(
            Result(cell, "failed" if failed else "finished", "code 1: out of memory" if failed else "", samples)
        )
    groups = {name: "low" if number < 3 else "high" for number, name in enumerate(NAMES)}
    baseline = {name: scores(0.45) for name in NAMES}
    return Study(OPTIONS, tmp_path, results, baseline, groups, 32, 20, ["The arm ImageNet is left out for atto."])


def test_the_page_shows_all_and_what_is_missing(study):
    told = write_study_report(study)
    page = (study.folder / "report.html").read_text()
    assert told["missing"] == ["mask_rcnn-atto-none-0", "mask_rcnn-atto-none-1"]
    for text in ("Missing: 2 of", "code 1: out of memory", "The arm ImageNet is left out", "Otsu + watershed", "ERR"):
        assert text in page
    for name in ("sizes", "micrographs", "counts", "images", "labels"):
        for suffix in ("pdf", "png", "csv"):
            assert (study.folder / f"figures/{name}_mask_rcnn.{suffix}").stat().st_size
    with (study.folder / "figures/sizes_mask_rcnn.csv").open() as file:
        rows = {(row["group"], row["arm"]): row for row in csv.DictReader(file)}
    assert rows["low", "none"]["mean"] == "", "missing, not dropped"
    assert float(rows["low", "fcmae"]["mean"]) == pytest.approx(0.8 - 0.4 * 32**-0.5 + 0.005 + 0.01)
    with (study.folder / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(study.results)


def test_the_curve_answers_how_many(study):
    answers = {(a["group"], a["question"]): a["answer"] for a in write_study_report(study)["images"]}
    assert answers["low", "ten times more, 320 images"].startswith("0.79")


def test_the_insides_are_shown_where_they_are(study):
    assert "Inside the networks" not in write_and_read(study)
    folder = study.folder / "insides"
    folder.mkdir()
    (folder / "feature_maps_fcmae-0.png").write_bytes((study.folder / "figures/sizes_mask_rcnn.png").read_bytes())
    figures = {"channels": 40, "dead": 3, "saturated": 0, "mean_cosine_distance": 0.4321}
    summary = {"feature_maps": {"fcmae-0": [figures]}, "activation_maps": {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    page = write_and_read(study)
    assert "Inside the networks" in page and "fcmae-0, stage 1" in page and "0.432" in page


def write_and_read(study: Study) -> str:
    write_study_report(study)
    return (study.folder / "report.html").read_text()
