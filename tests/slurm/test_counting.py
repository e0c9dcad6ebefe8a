"""When the batch script gives up, with stand-ins for Slurm's commands."""

import os
import subprocess
from pathlib import Path

import pytest

from sempre.training.run_folder import RUN_FILE, lock_run

ROOT = Path(__file__).parents[2]
SCRIPT = 'set -euo pipefail; root=$1; shift; source "$root/slurm/restartable.sh"; restartable "$@"'


@pytest.fixture
def start(tmp_path):
    """`start(does, *arguments)`: a start of the job whose recipe `does` something and crashes; what is logged."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("scontrol", "scancel"):
        (programs / name).write_text("#!/bin/bash\n[ $1 = requeue ] && echo requeued; echo NodeAddr=localhost\n")
        (programs / name).chmod(0o755)
    settings = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "pretrain",
        "SLURM_JOB_NODELIST": "n1",
        "MAX_RESTARTS": "2",
    }

    def run(does: str, *arguments: str) -> str:
        (programs / "srun").write_text(f"#!/bin/bash\n{does}\nexit 1\n")
        (programs / "srun").chmod(0o755)
        command = ["bash", "-c", SCRIPT, "job", str(ROOT), "recipe.py", *arguments]
        finished = subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)
        return finished.stdout + finished.stderr

    (tmp_path / "runs/another/checkpoints/last").mkdir(parents=True)
    return run


TELLS = 'echo "$PWD/runs/mine" > "$SEMPRE_RUN_FILE"; mkdir -p runs/mine/checkpoints/last; '
OTHER_SAVES = "sleep 0.02; touch runs/another/checkpoints/last/model; "
SAVES = "sleep 0.02; touch runs/mine/checkpoints/last/model; "


@pytest.mark.parametrize(
    ("does", "arguments"),
    [
        (OTHER_SAVES, ()),
        (OTHER_SAVES, ("configs/a.yaml",)),
        (OTHER_SAVES, ("name=mine",)),
        (TELLS + OTHER_SAVES, ()),
        (TELLS + OTHER_SAVES, ("name=another",)),  # which the recipe read otherwise
    ],
)
def test_checkpoints_of_another_run_are_no_progress(start, does, arguments):
    logs = [start(does, *arguments) for _ in range(3)]
    assert ["requeued" in log for log in logs] == [True, True, False]
    assert "gave up after 3 crashes" in logs[-1]


@pytest.mark.parametrize(
    ("does", "arguments"), [(TELLS + SAVES, ()), ("mkdir -p runs/mine/checkpoints/last; " + SAVES, ("name=mine",))]
)
def test_own_checkpoints_are_progress_whatever_way_the_name_came(start, does, arguments):
    assert all("requeued" in start(does, *arguments) for _ in range(5))


def test_a_run_tells_the_batch_script_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_FILE, str(tmp_path / "told"))
    (tmp_path / "runs/a b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    lock_run("runs/a b")
    assert (tmp_path / "told").read_text() == f"{tmp_path.resolve()}/runs/a b\n"
