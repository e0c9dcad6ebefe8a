"""Where Slurm keeps track of processes by control groups, as most clusters do, a signal reaches only the launcher."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import FREEZER, ROOT, Cluster, missing_programs, running_cluster
from tests.slurm.runs import RECIPES, checkpoint_step, logged, losses, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cgroup_cluster():
    if missing := missing_programs():
        pytest.skip(f"{missing[0]} is not installed: apt-get install slurm-wlm munge")
    if not os.access(FREEZER / "cgroup.procs", os.W_OK):
        pytest.skip(f"{FREEZER} cannot be written: without a hierarchy of cgroup v1 Slurm wants systemd for v2")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with running_cluster(folder, "cgroup") as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_near_the_time_limit_it_saves_at_once_and_goes_on(cgroup_cluster: Cluster, place: Path):
    assert "proctrack/cgroup" in cgroup_cluster.command("scontrol", "show", "config")
    script, recipe, folder = ROOT / "slurm/pretrain.sbatch", ROOT / "pretrain/fcmae.py", place / "runs/cgroup"
    options = [f"store={place}/store.h5", *RECIPES["fcmae"], "checkpoint_minutes=15", "name=cgroup"]
    job = cgroup_cluster.submit("--nodes", 1, script, recipe, *options, cwd=place, PROCESSES_PER_NODE="2")
    wait_until(lambda: logged(folder) > 3, "some steps")
    cgroup_cluster.command("scancel", "--batch", "--signal=USR1", job)  # as Slurm does 120 s before the limit
    log = place / f"pretrain-{job}.log"
    wait_until(lambda: "goes back to the queue" in log.read_text(), "the answer", timeout=60)
    assert "stopped and saved" in log.read_text()
    assert checkpoint_step(folder) >= 3
    assert cgroup_cluster.wait(job) == ["COMPLETED"], log.read_text()
    assert len(losses(folder)) == 16 * 3, "each step is there once"
