"""A study as the jobs that it writes: they are submitted to the cluster, and their report is whole."""

import csv
import json
import re

import pytest

from tests.slurm.cluster import ROOT
from tests.tools.test_study import SMALL
from tools.study import main

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


def test_a_studys_jobs_wait_for_each_other_and_its_report_names_the_cell_that_failed(cluster, begin_chain, tmp_path):
    broken = [option.replace("arms=[none,fcmae]", "arms=[none,fcmae,imagenet]") for option in SMALL]
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet/convnextv2_atto_1k_224_ema.pt").write_bytes(b"no weights")
    begin_chain(main, str(ROOT / "configs/studies/demo.yaml"), *broken, "run=slurm")
    folder = tmp_path / "runs/study"
    told = cluster.command(folder / "jobs/submit.sh", cwd=ROOT)
    numbers = {name: int(number) for name, number in re.findall(r"(\w+): job (\d+)", told)}
    assert list(numbers) == ["prepare", "pretrain", "finetune", "report"]

    assert cluster.wait(numbers["report"]) == ["COMPLETED"]
    assert [cluster.wait(numbers[name]) for name in ("prepare", "pretrain")] == [["COMPLETED"], ["COMPLETED"]]
    assert sorted(cluster.wait(numbers["finetune"])) == ["COMPLETED", "COMPLETED", "FAILED"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["missing"] == ["mask_rcnn-atto-imagenet-0"]
    with (folder / "table.csv").open(newline="") as file:
        states = {row["cell"]: row["state"] for row in csv.DictReader(file)}
    assert states == {
        "fcmae-atto": "finished",
        "mask_rcnn-atto-none-0": "finished",
        "mask_rcnn-atto-fcmae-0": "finished",
        "mask_rcnn-atto-imagenet-0": "failed",
    }
