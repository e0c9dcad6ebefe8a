"""How far prototypes carry, as a person measures it: with the settings of the thesis on volumes of its form."""

import csv
import json

import numpy as np
import pytest

from sempre.frozen.prototype_study import COUNTS, KINDS
from tests.recipes.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(bone, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    preset = ROOT / "configs/papers/prototypes.yaml"
    (folder / "groups.csv").write_text("A,young\nC,old\nF,old\n")  # of volumes, not of each slice
    tiny = ("groups=groups.csv", "slices=3", "skip=1", "size=0", "draws=2", "margin=2", "map=pca", "layer=0")
    backbones = "backbones=[random:convnextv2_atto,intensity]"
    finished = run("evaluate/transfer.py", preset, f"data={bone}", backbones, *tiny, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    with (folder / "runs/transfer/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return folder / "runs/transfer", json.loads((folder / "runs/transfer/summary.json").read_text()), rows


def test_every_micrograph_is_segmented_by_points_of_its_own_of_its_sample_and_of_others(finished):
    _, summary, rows = finished
    assert summary["samples"] == ["A", "C", "F"]
    assert summary["micrographs"] == 9
    assert (summary["threshold"], summary["percent"], summary["points"]) == ("top", 10.0, 25)
    for backbone in summary["backbones"]:
        for draw in "01":
            drawn = [row for row in rows if (row["backbone"], row["draw"]) == (backbone, draw)]
            own, same, other = ([row for row in drawn if row["kind"] == kind] for kind in KINDS)
            assert {row["name"] for row in own} == {f"{sample}_000{number}" for sample in "ACF" for number in (1, 3, 4)}
            assert all(row["reference"] == row["name"] for row in own)
            assert len(same) == 6, "all but the reference of each sample"
            assert all(row["reference"] != row["name"] and row["reference_sample"] == row["sample"] for row in same)
            assert len(other) == 18
            assert len({row["reference"] for row in other}) == 3, "one reference a sample"


def test_the_tables_are_of_the_rows(finished):
    _, summary, rows = finished
    for backbone, result in summary["backbones"].items():
        of_backbone = [row for row in rows if row["backbone"] == backbone]
        own = [row for row in of_backbone if row["kind"] == KINDS[0]]
        for score in ("dice", "iou", "hd95_px"):
            found = result["protocols"][KINDS[0]][score]
            assert found["mean"] == pytest.approx(np.mean([float(row[score]) for row in own]))
            by_draw = [np.mean([float(row[score]) for row in own if row["draw"] == draw]) for draw in "01"]
            assert found["std_draws"] == pytest.approx(np.std(by_draw, ddof=1))
            names = sorted({row["name"] for row in own})
            by_name = [np.mean([float(row[score]) for row in own if row["name"] == name]) for name in names]
            assert found["std_micrographs"] == pytest.approx(np.std(by_name, ddof=1))
        for sample in "ACF":
            diagonal = result["matrix"][sample][sample]["dice"]
            assert diagonal == result["samples"][sample][KINDS[1]]["dice"], "the diagonal leaves itself out"
        from_c_to_f = [row for row in of_backbone if (row["reference_sample"], row["sample"]) == ("C", "F")]
        dice = result["matrix"]["C"]["F"]["dice"]["mean"]
        assert dice == pytest.approx(np.mean([float(row["dice"]) for row in from_c_to_f]))
        assert result["percent"]["10"]["dice"] == pytest.approx(result["protocols"][KINDS[0]]["dice"]["mean"])
        assert result["points"]["25"]["dice"]["mean"] == pytest.approx(result["percent"]["10"]["dice"])
        assert list(map(int, result["points"])) == list(COUNTS)
        assert set(result["percent_by_sample"]) == set("ACF")
        assert result["separability"]["micrographs"] == 9


def test_groups_of_samples_are_scored_apart(finished):
    folder, summary, rows = finished
    for backbone, result in summary["backbones"].items():
        assert result["groups"]["young"] == result["samples"]["A"], "the only sample of its group"
        of_old = [
            row
            for row in rows
            if (row["backbone"], row["kind"]) == (backbone, KINDS[2]) and row["sample"] in ("C", "F")
        ]
        found = result["groups"]["old"][KINDS[2]]
        for score in ("dice", "iou", "hd95_px"):
            assert found[score]["mean"] == pytest.approx(np.mean([float(row[score]) for row in of_old]))
    page = (folder / "report.html").read_text()
    assert "Group young" in page
    assert "Group old" in page


def test_the_structure_is_found_and_shown(finished):
    folder, summary, _ = finished
    best = summary["backbones"][summary["best"]]["protocols"][KINDS[0]]
    assert best["dice"]["mean"] > 0.7
    page = (folder / "report.html").read_text()
    assert [page.count(f", {word}: ") for word in ("worst", "best")] == [3, 3]
    assert page.count(", median: ") == 5, "of three samples and of two transfers"
    assert page.count("<figcaption>points</figcaption>") == 11
