"""The whole chain in a budget that lets each training take one epoch, and that of few crops."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.warm import run_warm
from tools import demo as demo_tool

SCRIPT = Path(__file__).parents[2] / "tools/demo.py"


@pytest.fixture
def few_crops(monkeypatch, tmp_path):
    """The demo's fine-tuning as it is shipped, but of two steps an epoch."""
    config = OmegaConf.load(demo_tool.FINE_TUNING)
    config.crops_an_epoch = 2 * config.batch
    OmegaConf.save(config, tmp_path / "few_crops.yaml")
    monkeypatch.setattr(demo_tool, "FINE_TUNING", tmp_path / "few_crops.yaml")
    monkeypatch.setattr(demo_tool, "PROBE_CROPS", config.crops_an_epoch)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("few_crops")
def test_one_command_goes_from_micrographs_to_a_bundle_and_a_report(begin_chain, tmp_path, capsys):
    small = "synthetic=[labelled=15,unlabelled=24,size=256,'magnifications=[medium]','kinds=[sphere]']"
    begin_chain(demo_tool.main, "minutes=0.5", small)
    assert "[pretrain]" in capsys.readouterr().out
    demo = tmp_path / "runs/demo"
    summary = json.loads((demo / "summary.json").read_text())
    assert list(summary["arms"]) == ["Otsu + watershed", "Released model", "No pretraining", "SparK"]
    for arm, scores in summary["arms"].items():
        assert 0 <= scores["aji_plus"]["mean"] <= 1
        assert set(summary["error_reduction_rate"][arm]) == set(summary["arms"]) - {arm}
    page = (demo / "report.html").read_text()
    for arm, scores in summary["arms"].items():
        assert arm in page
        assert f"{scores['aji_plus']['mean']:.3f}" in page
    assert "data:image/png;base64" in page
    assert 'src="http' not in page
    assert {"model.onnx", "model.json"} == {path.name for path in (demo / "bundle").iterdir()}
    assert len(list((demo / "segmented").glob("*_instances.tif"))) == 3

    again = run_warm(SCRIPT, "minutes=0.5", small, cwd=tmp_path)
    assert again.returncode == 0
    assert "[pretrain]" not in again.stdout, "what has finished is not done again"
