import csv
import json

import pytest
from omegaconf import OmegaConf

from sempre.report.backbone_table import FINE_TUNED, write_backbone_table


def fine_tuned(folder, backbone: str, aji_plus: float) -> None:
    folder.mkdir(parents=True)
    OmegaConf.save({"backbone": backbone, "architecture": "convnextv2_atto"}, folder / "config.yaml")
    (folder / "summary.json").write_text(json.dumps({"scores": {"aji_plus": {"mean": aji_plus}}}))


def test_backbones_beside_what_fine_tuning_made_of_them(tmp_path, capsys):
    runs = tmp_path / "runs"
    fine_tuned(runs / "a", str(tmp_path / "first"), 0.5)
    fine_tuned(runs / "b", str(tmp_path / "second"), 0.6)
    fine_tuned(runs / "c/again", str(tmp_path / "second"), 0.7)
    fine_tuned(runs / "d", "none", 0.1)
    rows = {
        str(tmp_path / "first"): {"accuracy": 0.8, "silhouette": 0.3},
        str(tmp_path / "second"): {"accuracy": 0.9, "silhouette": 0.2},
        "random:convnextv2_atto@-2": {"accuracy": 0.5, "silhouette": 0.4},
        "intensity": {"accuracy": 0.4, "silhouette": 0.0},
    }
    read_out = dict.fromkeys(rows, "layer 3 of 4, 16 px")
    summary = write_backbone_table(tmp_path / "out", "title", "about", rows, read_out, runs)
    scores = [figures.get(FINE_TUNED) for figures in summary["backbones"].values()]
    assert scores == [0.5, 0.7, 0.1, None]
    assert summary["rank_correlation"] == pytest.approx({"accuracy": 1.0, "silhouette": -1.0})
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary
    with (tmp_path / "out/table.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["backbone", "read out", "accuracy", "silhouette", FINE_TUNED]
    assert lines[2][1:] == ["layer 3 of 4, 16 px", "0.900", "0.200", "0.700"]
    assert "0.900" in (tmp_path / "out/report.html").read_text()
    assert "intensity" in capsys.readouterr().out


def test_two_runs_rank_nothing(tmp_path):
    fine_tuned(tmp_path / "runs/a", "none", 0.5)
    name = "random:convnextv2_atto"
    rows, read_out = {name: {"accuracy": 0.5}}, {name: "layer 4 of 4, 32 px"}
    summary = write_backbone_table(tmp_path / "out", "t", "a", rows, read_out, tmp_path / "runs")
    assert summary["rank_correlation"] == {}
    assert summary["backbones"][name][FINE_TUNED] == 0.5
