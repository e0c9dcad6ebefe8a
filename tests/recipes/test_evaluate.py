"""Frozen backbones side by side, in a budget that lets each pretraining take one epoch."""

import json

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_command_compares_backbones_that_it_pretrains_itself(labelled_set, run, tmp_path):
    finished = run("tools/evaluate.py", f"data={labelled_set}", "minutes=0.1", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    folder = tmp_path / "runs/evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["backbones"]) == ["Intensity", "Random weights", "FCMAE", "DINO"]
    page = (folder / "report.html").read_text()
    for title, figures in summary["backbones"].items():
        assert title in page
        assert 0 <= figures["knn"] <= 1
        assert 0 <= figures["aji_plus"] <= 1
        assert f"{figures['dice']:.3f}" in page
    linked = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert len(linked) == 8
    assert all((folder / address).is_file() for address in linked)

    again = run("tools/evaluate.py", f"data={labelled_set}", "minutes=0.1", cwd=tmp_path)
    assert again.returncode == 0
    assert "[pretrain]" not in again.stdout, "what has finished is not done again"
