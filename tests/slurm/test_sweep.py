import csv
import subprocess
import sys

import pytest
import yaml

from tests.slurm.cluster import ROOT
from tests.slurm.runs import RECIPES, logged, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


def test_a_sweep_is_completed_by_the_same_command(cluster, place):
    options = dict(option.split("=") for option in RECIPES["fcmae"]) | {"store": f"{place}/store.h5", "epochs": 3}
    sweep = place / "rates.yaml"
    sweep.write_text(
        f"recipe: {ROOT}/pretrain/fcmae.py\n"
        f"options: {{{', '.join(f'{name}: {value}' for name, value in options.items())}}}\n"
        "vary: {base_rate: [1e-4, 1e-3, 1e-2], seed: [0, 1]}\n"
    )
    submission = ("--array=0-5", ROOT / "slurm/sweep.sbatch", sweep)

    first = cluster.submit(*submission, cwd=place)
    killed = place / "runs/rates/0.001-0"
    wait_until(lambda: logged(killed) > 0, "the run that is to be killed")
    cluster.command("scancel", f"{first}_2")
    assert sorted(cluster.wait(first)) == ["CANCELLED"] + 5 * ["COMPLETED"]
    assert states(place, sweep) == {"finished": 5, "unfinished": 1}

    second = cluster.submit(*submission, cwd=place)
    assert cluster.wait(second) == 6 * ["COMPLETED"]
    assert states(place, sweep) == {"finished": 6}
    logs = [path.read_text() for path in place.glob(f"sweep-{second}_*.log")]
    assert sum("has finished before" in log for log in logs) == 5


def test_each_pretraining_of_a_sweep_takes_as_many_nodes(cluster, place):
    methods = {}
    for method in ("fcmae", "densecl"):
        options = dict(option.split("=") for option in RECIPES[method]) | {"epochs": 2}
        methods[method] = {"recipe": f"{ROOT}/pretrain/{method}.py", **options}
    sweep = place / "methods.yaml"
    content = {"recipe": methods["fcmae"]["recipe"], "options": {"store": f"{place}/store.h5"}}
    sweep.write_text(yaml.safe_dump({**content, "vary": {"method": methods}}))
    job = cluster.submit("--nodes", 2, "--array=0-1%1", ROOT / "slurm/sweep.sbatch", sweep, cwd=place)
    assert cluster.wait(job) == 2 * ["COMPLETED"]
    for task, method in enumerate(methods):
        log = (place / f"sweep-{job}_{task}.log").read_text()
        assert "2 x cpu, global batch 2 (1 a process)" in log
        assert (place / f"runs/methods/{method}/backbone/backbone.safetensors").is_file()


def states(place, sweep) -> dict[str, int]:
    """How many runs the sweep's table lists in each state; the finished ones must have their loss."""
    command = [sys.executable, ROOT / "tools/sweep.py", f"sweep={sweep}"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    with (place / "runs/rates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(float(row["validation_loss"]) > 0 for row in rows if row["state"] == "finished")
    return {state: sum(row["state"] == state for row in rows) for state in {row["state"] for row in rows}}
