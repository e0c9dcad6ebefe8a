"""The study by one command, with the recipes themselves, at the smallest size."""

import json
import re
import sys
from pathlib import Path

import pytest
import tifffile

from sempre.errors import InputError
from sempre.images import write_labels
from sempre.synthetic import render_field
from tools.study import main

ROOT = Path(__file__).parents[2]
SMALL = (
    "name=study",
    "arms=[none,fcmae]",
    "methods=[mask_rcnn]",
    "curve_methods=[]",
    "repeats=1",
    'render=[labelled=6,unlabelled=6,size=128,"magnifications=[low,medium]",information_bars=false,workers=1]',
    "fcmae=[crop=64,decoder_width=32,batch=4,epochs=1,warmup_epochs=0,workers=0,panels=1]",
    "mask_rcnn=[pyramid_channels=16,box_head_width=16,mask_head_layers=1,proposals=20,detections=20,crop=96,batch=2,"
    "epochs=1,validate_every=0,workers=0]",
)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Calls the command, in a folder with a labelled set, by a preset and further options."""
    for folder in ("set/images", "set/labels"):
        (tmp_path / folder).mkdir(parents=True)
    for seed in range(6):
        field = render_field(seed, (96, 96))
        tifffile.imwrite(tmp_path / f"set/images/{seed}.tif", field.pixels)
        write_labels(tmp_path / f"set/labels/{seed}.tif", field.labels)
    monkeypatch.chdir(tmp_path)

    def call(preset, *options):
        preset = f"configs/studies/{preset}.yaml"
        command = ["tools/study.py", preset, "data=set", "unlabelled=set/images", "name=study", *options]
        monkeypatch.setattr(sys, "argv", command)
        main()

    return call


@pytest.mark.parametrize("preset", ["cpu-night", "gpu-hour", "paper"])
def test_a_dry_run_tells_all_and_writes_nothing(study, tmp_path, preset, capsys):
    study(preset, "dry_run=true")
    printed = capsys.readouterr().out
    assert "mask_rcnn-atto-fcmae-0: finetune/mask_rcnn.py" in printed
    assert re.search(r"^finetune\w*=\$\(sbatch", printed, re.MULTILINE), printed
    told = printed.rpartition("report=$(")[2]
    assert re.search(r"^in all (more than )?[\d.]+ hours .* GB$|^in all unknown hours: give", told, re.MULTILINE)
    assert " 0.0 hours" not in told and printed.count("\n") < 50
    assert not (tmp_path / "runs").exists()


def test_labels_that_do_not_fit_are_told_before_any_cell(study, tmp_path):
    write_labels(tmp_path / "set/labels/5.tif", render_field(5, (96, 96)).labels[:88])
    with pytest.raises(InputError, match=r"5\.tif is 96x96 px but its labels in .* are 88x96 px"):
        study("demo")
    assert not (tmp_path / "runs/study/store.h5").exists()


@pytest.mark.long
def test_one_command_ends_with_the_whole_report_and_starts_no_cell_twice(begin_chain, tmp_path):
    pytest.importorskip("pytorch_grad_cam", reason="the extra insides is not installed")
    command = [main, str(ROOT / "configs/studies/demo.yaml"), *SMALL]
    begin_chain(*command)
    folder = tmp_path / "runs/study"
    assert json.loads((folder / "summary.json").read_text())["missing"] == []
    insides = json.loads((folder / "insides/summary.json").read_text())
    assert set(insides["activation_maps"]) == {"mask_rcnn-atto-none-0", "mask_rcnn-atto-fcmae-0"}
    page = (folder / "report.html").read_text()
    assert "Inside the networks" in page and "The arm ImageNet" not in page

    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/repeat-0/model.safetensors")}
    table = (folder / "table.csv").read_text()
    begin_chain(*command)
    assert len(before) == 2 and before == {path: path.stat().st_mtime_ns for path in before}
    assert (folder / "table.csv").read_text() == table
