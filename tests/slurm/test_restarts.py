"""When the batch script starts a recipe again, with recipes that only end in one way or another."""

from pathlib import Path

import pytest

from tests.slurm.cluster import ROOT, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

MISTAKE = "import os, sys, time; time.sleep(0 if os.environ['RANK'] == '0' else 60); sys.exit(2)"
CRASH = "raise RuntimeError('a bug')"
# Crashes three times, each time after a new checkpoint.
PROGRESS = """
import pathlib, sys
checkpoint = pathlib.Path("runs/progress/checkpoints/last/step")
checkpoint.parent.mkdir(parents=True, exist_ok=True)
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
checkpoint.write_text(str(step + 1))
sys.exit(step < 3)
"""


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path):
    """`submit(source, name)`: a job whose recipe is `source`, and its state, restarts and log when it has ended."""
    (tmp_path / "pretrain").mkdir()
    for shared in ("slurm", ".venv"):
        (tmp_path / shared).symlink_to(ROOT / shared)

    def run(source: str, name: str, nodes: int = 1, restarts: int = 5) -> tuple[str, int, str]:
        recipe = tmp_path / "pretrain/recipe.py"
        recipe.write_text(source)
        arguments = ["--nodes", nodes, ROOT / "slurm/pretrain.sbatch", recipe, f"name={name}"]
        job = cluster.submit(*arguments, cwd=tmp_path, MAX_RESTARTS=str(restarts))
        states = cluster.wait(job)
        return states[0], int(cluster.job(job)["Restarts"]), (tmp_path / f"pretrain-{job}.log").read_text()

    return run


def test_a_mistake_is_not_started_again(submit):
    state, restarts, log = submit(MISTAKE, "mistake", nodes=2)
    assert (state, restarts) == ("FAILED", 0)
    assert "not started again" in log


def test_a_bug_does_not_loop_for_ever(submit):
    state, restarts, log = submit(CRASH, "crash", restarts=2)
    assert (state, restarts) == ("FAILED", 2)
    assert "gave up after 3 crashes without a new checkpoint" in log


def test_crashes_with_progress_between_them_are_not_counted(submit):
    state, restarts, _ = submit(PROGRESS, "progress", restarts=1)
    assert (state, restarts) == ("COMPLETED", 3)
