"""Frozen backbones side by side, in a budget that lets each pretraining take one epoch."""

import json

import pytest

from tools.evaluate import main, with_layers


def test_the_layer_is_the_familys_or_the_users():
    """The last block but one of a vision transformer is not what its last stage but one is to a ConvNeXtV2."""
    given = ["random:vit_tiny_patch16_224", "random:convnextv2_atto", "intensity", "random:vit_tiny_patch16_224@-4"]
    chosen = with_layers(dict(zip("abcd", given, strict=True)))
    assert list(chosen.values()) == [f"{given[0]}@-1", f"{given[1]}@-2", "intensity@-2", given[3]]


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_one_command_compares_backbones_that_it_pretrains_itself(labelled_set, run, begin_chain, tmp_path, capsys):
    begin_chain(main, f"data={labelled_set}", "minutes=0.1")
    assert "[pretrain]" in capsys.readouterr().out
    folder = tmp_path / "runs/evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["backbones"]) == ["Intensity", "Random weights", "FCMAE", "DINO"]
    page = (folder / "report.html").read_text()
    for title, figures in summary["backbones"].items():
        assert title in page
        assert figures["read_out"] == "layer 3 of 4, 16 px"
        assert f"<td>{title}</td><td>{figures['read_out']}</td>" in page, "beside the backbone"
        assert 0 <= figures["knn"] <= 1
        assert 0 <= figures["aji_plus"] <= 1
        assert f"{figures['dice']:.3f}" in page
    linked = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert len(linked) == 8
    assert all((folder / address).is_file() for address in linked)

    again = run("tools/evaluate.py", f"data={labelled_set}", "minutes=0.1", cwd=tmp_path)
    assert again.returncode == 0
    assert "[pretrain]" not in again.stdout, "what has finished is not done again"
