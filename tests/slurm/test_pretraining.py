"""Pretraining on two nodes: like two processes, through every disturbance, and on with one node."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sempre.training.run_folder import read_log
from tests.slurm.cluster import ROOT, Cluster
from tests.slurm.runs import RECIPES, assert_same_weights, checkpoint_step, logged, losses, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, place: Path, pretrain):
    """`undisturbed(recipe)`: the folder of a run that nothing has happened to, on two nodes."""

    @cache
    def run(recipe: str) -> Path:
        name = f"{recipe}-undisturbed"
        job = pretrain(recipe, name, *RECIPES[recipe])
        assert cluster.wait(job) == ["COMPLETED"], job_log(place, job)
        assert not list(place.glob("*.crashes"))
        return place / "runs" / name

    return run


def test_two_nodes_compute_what_two_processes_do(undisturbed, cluster, place):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", ROOT / "pretrain/fcmae.py"]
    options = [f"store={place}/store.h5", *RECIPES["fcmae"], "name=processes"]
    subprocess.run([*command, *options], cwd=place, env=cluster.environment, check=True, capture_output=True)
    for kind in ("train", "validation"):
        expected = losses(place / "runs/processes", kind)
        np.testing.assert_allclose(losses(undisturbed("fcmae"), kind), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_survives_every_disturbance(recipe, undisturbed, cluster, place, pretrain):
    chance = random.Random(recipe)
    kinds = chance.sample(list(DISTURBANCES), len(DISTURBANCES))
    if recipe == "fcmae":
        kinds += [*chance.sample(list(DISTURBANCES), len(DISTURBANCES)), "daemon killed"]
    name = f"{recipe}-disturbed"
    folder = place / "runs" / name
    job = pretrain(recipe, name, *RECIPES[recipe])
    moments = []  # (time, newest checkpoint's step) of each disturbance
    for kind in kinds:
        lines = logged(folder) + chance.randrange(1, 3)
        wait_until(lambda lines=lines: logged(folder) >= lines, f"progress before '{kind}'")
        time.sleep(chance.uniform(0, 0.3))
        start = restarts(cluster, job)
        moments.append((time.time(), checkpoint_step(folder)))
        (DISTURBANCES | {"daemon killed": kill_daemon})[kind](cluster, job, chance)
        again = f"start {start + 1}, on"  # what is said once the processes of the start before are gone
        wait_until(lambda again=again: again in job_log(place, job) or over(cluster, job), "a new start")
        assert again in job_log(place, job), f"'{kind}' did not lead to a new start:\n{job_log(place, job)}"

    assert cluster.wait(job) == ["COMPLETED"], job_log(place, job)
    assert restarts(cluster, job) >= len(kinds)
    np.testing.assert_array_equal(losses(folder), losses(undisturbed(recipe)))
    assert_same_weights(folder, undisturbed(recipe))
    for moment, step in moments:  # a step that is repeated is logged anew
        repeated = [line for line in training_lines(folder) if line["step"] <= step and line["time"] > moment]
        assert not repeated, f"of step {step}, repeated from {repeated[0]['step']} on"


def test_near_the_time_limit_it_saves_and_goes_on_with_one_node(undisturbed, cluster, place, pretrain):
    recipe, name = "fcmae", "fewer-nodes"
    folder = place / "runs" / name
    job = pretrain(recipe, name, *RECIPES[recipe])
    wait_until(lambda: logged(folder) > 5, "some steps")
    # Slurm looks at limits every half minute: training waits for it here, or this tiny run would be over.
    ranks = [process for node in ("n1", "n2") for process in training_processes(cluster, job, node)]
    for process in ranks:
        os.kill(process, signal.SIGSTOP)
    cluster.command("scontrol", "update", f"JobId={job}", "TimeLimit=2")
    wait_until(lambda: "time limit is near" in job_log(place, job), "Slurm's warning")
    for process in ranks:
        os.kill(process, signal.SIGCONT)
    wait_until(lambda: cluster.job(job)["JobState"] == "PENDING", "the job to be back in the queue")
    assert "stopped and saved" in job_log(place, job)
    stopped_at = checkpoint_step(folder)
    assert stopped_at >= 5
    cluster.command("scancel", job)

    again = pretrain(recipe, name, *RECIPES[recipe], nodes=1)
    assert cluster.wait(again) == ["COMPLETED"], job_log(place, again)
    assert re.findall(r", on (\S+):", job_log(place, again)) in (["n1"], ["n2"])
    assert len(losses(folder)) > stopped_at
    for kind in ("train", "validation"):
        np.testing.assert_allclose(losses(folder, kind), losses(undisturbed(recipe), kind), rtol=1e-4)


def requeue(cluster: Cluster, job: int, chance: random.Random) -> None:
    cluster.command("scontrol", "requeue", job)


def warn(cluster: Cluster, job: int, chance: random.Random) -> None:
    """What Slurm does 120 s before the time limit."""
    cluster.command("scancel", "--batch", "--signal=USR1", job)


def kill_rank(cluster: Cluster, job: int, chance: random.Random) -> None:
    os.kill(chance.choice(training_processes(cluster, job, chance.choice(["n1", "n2"]))), signal.SIGKILL)


def kill_step(cluster: Cluster, job: int, chance: random.Random) -> None:
    """All processes of the job's step on one node."""
    for process in cluster.processes(job, chance.choice(["n1", "n2"])):
        os.kill(process, signal.SIGKILL)


def kill_daemon(cluster: Cluster, job: int, chance: random.Random) -> None:
    """The same together with slurmstepd, which looks after them: nobody is left to tell how they ended."""
    processes = cluster.processes(job, chance.choice(["n1", "n2"]))
    launcher = next(process for process, command in processes.items() if "launch.py" in command)
    for process in [parent(launcher), *processes]:
        os.kill(process, signal.SIGKILL)


DISTURBANCES = {"requeue": requeue, "time limit": warn, "rank killed": kill_rank, "step killed": kill_step}


def restarts(cluster: Cluster, job: int) -> int:
    return int(cluster.job(job)["Restarts"])


def over(cluster: Cluster, job: int) -> bool:
    return cluster.job(job)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def training_processes(cluster: Cluster, job: int, node: str) -> list[int]:
    helpers = "launch.py", "resource_tracker", "sempre.images.hdf5_look"
    processes = cluster.processes(job, node).items()
    return [process for process, command in processes if not any(helper in command for helper in helpers)]


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def training_lines(folder: Path) -> list[dict]:
    return [line for line in read_log(folder / "log.jsonl") if line["kind"] == "train"]


def job_log(place: Path, job: int) -> str:
    return (place / f"pretrain-{job}.log").read_text(errors="replace")
