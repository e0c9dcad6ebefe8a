"""Fine-tuning on two nodes: killed in training and in scoring, it ends with the table of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import ROOT, Cluster
from tests.slurm.runs import logged, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

SMALL = (
    "architecture=unet_small",
    "crop=64",
    "batch=4",
    "crops_an_epoch=32",
    "epochs=4",
    "workers=0",
    "precision=float32",
    "validation_fraction=0.8",
    "timeout_minutes=5",
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Fifty labelled micrographs, most of them held out: scoring takes long enough to be disturbed."""
    folder = tmp_path_factory.mktemp("labelled")
    command = [sys.executable, ROOT / "data/synthesize.py", "out=set", "labelled=50", "unlabelled=0", "size=160"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "set/labelled"


@pytest.fixture
def fine_tune(cluster: Cluster, labelled: Path, tmp_path: Path):
    """`fine_tune(name)`: submits slurm/finetune.sbatch on two nodes and gives the job's number."""

    def submit(name: str) -> int:
        arguments = [ROOT / "slurm/finetune.sbatch", ROOT / "finetune/dense.py", f"data={labelled}", *SMALL]
        return cluster.submit("--nodes", 2, *arguments, f"name={name}", cwd=tmp_path)

    return submit


def table(run: Path) -> dict:
    """What the run's summary says, but for the seconds that it took."""
    summary = json.loads((run / "summary.json").read_text())
    for repeat in summary["repeats"]:
        del repeat["seconds_a_micrograph"]
    return summary


def kill_ranks(cluster: Cluster, job: int, node: str) -> None:
    for process, command in cluster.processes(job, node).items():
        if "finetune/dense.py" in command and "launch.py" not in command:
            os.kill(process, signal.SIGKILL)


def test_killed_in_training_and_in_scoring_it_ends_with_the_same_table(cluster, fine_tune, tmp_path):
    def log(job: int) -> str:
        return (tmp_path / f"finetune-{job}.log").read_text(errors="replace")

    whole = fine_tune("whole")
    assert cluster.wait(whole) == ["COMPLETED"], log(whole)

    job, run = fine_tune("killed"), tmp_path / "runs/killed/repeat-0"
    wait_until(lambda: logged(run) >= 1, "some training")
    kill_ranks(cluster, job, "n2")
    wait_until(lambda: "start 1, on" in log(job), "a new start")
    wait_until(lambda: len(list(run.glob("scored/*/*/*.json"))) >= 4, "some scores")
    kill_ranks(cluster, job, "n1")
    moment = time.time()
    kept = {file.relative_to(run): file.stat().st_mtime for file in run.glob("scored/*/*/*.json")}
    assert cluster.wait(job) == ["COMPLETED"], log(job)
    assert int(cluster.job(job)["Restarts"]) == 2
    predictions = {file.stem: file.stat().st_mtime for file in (run / "predictions").glob("*.tif")}
    assert sum(written < moment for written in predictions.values()) >= len(kept) > 3, "what was scored is kept"
    assert not (run / "scored").exists()
    assert table(tmp_path / "runs/killed") == table(tmp_path / "runs/whole")
    assert log(job).count("gave up") == 0
