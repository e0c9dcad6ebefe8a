"""The whole chain in a budget that lets each training take one epoch."""

import json
import sys
from types import SimpleNamespace

import pytest

from sempre.training.chains import stages
from tests.warm import WarmProcess
from tools.demo import main


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_command_goes_from_micrographs_to_a_bundle_and_a_report(tmp_path, monkeypatch, capsys):
    small = "synthetic=[labelled=15,unlabelled=24,size=256,'magnifications=[medium]','kinds=[sphere]']"
    monkeypatch.setattr(stages, "subprocess", SimpleNamespace(Popen=WarmProcess))
    monkeypatch.setattr(sys, "argv", ["tools/demo.py", "minutes=0.5", small])
    monkeypatch.chdir(tmp_path)
    main()
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

    main()
    assert "[pretrain]" not in capsys.readouterr().out, "what has finished is not done again"
