"""The launcher of one node and the batch script around it, without a cluster."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile

from sempre.images import write_labels
from sempre.synthetic import render_field
from tests.slurm.cluster import ROOT, free_port
from tests.slurm.runs import RECIPES, assert_same_weights, checkpoint_step, logged, losses, wait_until
from tests.warm import start_two_ranks

NODE = {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
# Notes the signal; leaves at the second it has waited for, or after a minute without any.
RECIPE = """
import sys, time
from pathlib import Path
time.sleep(float(sys.argv[1]))
from sempre.training.preemption import StopSignal
stop = StopSignal()
with stop.held():
    Path(f"ready-{time.monotonic_ns()}").touch()
    end = time.monotonic() + 60
    while not stop and time.monotonic() < end:
        time.sleep(0.05)
sys.exit(75 if stop else 1)
"""


def launch(folder: Path, processes: int, *command: object) -> subprocess.Popen:
    node = NODE | {"MASTER_PORT": str(free_port()), "PROCESSES_PER_NODE": str(processes), "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, ROOT / "slurm/launch.py", *command]
    return subprocess.Popen(list(map(str, arguments)), cwd=folder, env=os.environ | node)


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, True])
def test_a_signal_to_the_launcher_alone_reaches_every_process(tmp_path, early):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)
    launcher = launch(tmp_path, 2, recipe, 8 if early else 0)
    if early:  # the processes are there but do not listen yet
        wait_until(lambda: children(launcher.pid) == 2, "the processes")
        time.sleep(1)
    else:
        wait_until(lambda: len(list(tmp_path.glob("ready-*"))) == 2, "the recipe")
    os.kill(launcher.pid, signal.SIGUSR1)
    assert launcher.wait(40) == 75


@pytest.mark.slow
def test_a_signal_to_the_launcher_alone_saves_a_training_that_goes_on_to_the_same_weights(place):
    command = [
        ROOT / "pretrain/fcmae.py",
        f"store={place}/store.h5",
        *RECIPES["fcmae"],
        "epochs=8",
        "checkpoint_minutes=15",
    ]
    assert finish_two_ranks(place, *command, "name=undisturbed") == [0, 0]
    folder = place / "runs/signalled"
    launcher = launch(place, 2, *command, "name=signalled")
    wait_until(lambda: logged(folder) > 5, "some steps")
    start = time.monotonic()
    os.kill(launcher.pid, signal.SIGUSR1)
    assert launcher.wait(60) == 75
    assert time.monotonic() - start < 20
    assert checkpoint_step(folder) == len(losses(folder)) >= 5
    assert finish_two_ranks(place, *command, "name=signalled") == [0, 0]
    assert_same_weights(folder, place / "runs/undisturbed")


@pytest.mark.slow
def test_a_signal_to_the_launcher_alone_ends_the_scoring_on_one_process_and_the_waiting_on_the_other(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for seed in (0, 2, 5, 6):
        field = render_field(seed, (192, 192))
        tifffile.imwrite(tmp_path / f"set/images/{seed}.tif", field.pixels)
        write_labels(tmp_path / f"set/labels/{seed}.tif", field.labels)
    small = [
        "architecture=unet_small",
        "crop=64",
        "crops_an_epoch=8",
        "batch=4",
        "epochs=1",
        "workers=0",
        "name=scored",
    ]
    command = [ROOT / "finetune/dense.py", "data=set", "validation_fraction=0.7", *small]
    launcher, folder = launch(tmp_path, 2, *command), tmp_path / "runs/scored"
    while not (folder / "repeat-0/predictions").exists():
        assert launcher.poll() is None
        time.sleep(0.002)
    start = time.monotonic()
    os.kill(launcher.pid, signal.SIGUSR1)
    assert launcher.wait(60) == 75
    assert time.monotonic() - start < 20
    assert finish_two_ranks(tmp_path, *command) == [0, 0]
    assert (folder / "summary.json").exists()


def test_the_step_gets_the_cores_that_the_job_has(tmp_path):
    for name, script in {"scontrol": "echo NodeAddr=127.0.0.1 n1", "srun": f"env >{tmp_path}/environment"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "pretrain", "SLURM_JOB_NODELIST": "n1", "SLURM_CPUS_PER_TASK": "12"}
    environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = f"root={ROOT}; source {ROOT}/slurm/restartable.sh; restartable recipe.py name=mine"
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=environment, check=True)
    assert "SRUN_CPUS_PER_TASK=12" in (tmp_path / "environment").read_text().splitlines()


def finish_two_ranks(folder: Path, *command: object) -> list[int | None]:
    """The exit codes of what the launcher starts, without it: sooner begun than behind two more imports of PyTorch."""
    ranks = start_two_ranks([sys.executable, *map(str, command)], folder)
    return [rank.wait() for rank in ranks]


def children(process: int) -> int:
    return len(Path(f"/proc/{process}/task/{process}/children").read_text().split())
