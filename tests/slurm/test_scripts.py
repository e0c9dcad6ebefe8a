"""What the batch scripts ask Slurm for and say, with stubs of Slurm's commands in its place."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sempre.config import read_options
from sempre.training.sweeps import read_sweep
from tests.slurm.cluster import ROOT

STUBS = {
    "sbatch": 'printf "%s\\n" "$@" >>"$STUBS/asked"; echo 17',
    "srun": 'printf "%s\\n" "$@" >>"$STUBS/ran"; exit "${ENDS:-0}"',
    "python": 'printf "%s\\n" "$@" >>"$STUBS/ran"; exit "${ENDS:-0}"',
    "scontrol": '[[ $1 == requeue ]] && { echo "requeue refused" >&2; exit "${REFUSES:-0}"; }; echo "n1 NodeAddr=::1"',
    "scancel": "true",
    "apptainer": 'printf "%s\\n" apptainer "$@" >>"$STUBS/ran"; exit "${ENDS:-0}"',
}
JOB = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NAME": "train"}


@pytest.fixture
def checkout(tmp_path):
    """A checkout's `slurm/`, with recipes that are never run."""
    folder = tmp_path / "sempre"
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    shutil.copytree(ROOT / "configs/sweeps", folder / "configs/sweeps")
    for name in ("pretrain/fcmae.py", "finetune/mask_rcnn.py", "data/prepare.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def bash(checkout, tmp_path):
    """Run a script of the checkout with Slurm's commands stubbed; its end, what was asked of sbatch and what ran."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name, body in STUBS.items():
        (stubs / name).write_text(f"#!/bin/bash\n{body}\n")
        (stubs / name).chmod(0o755)

    def run(*command: object, cwd: Path = checkout, **environment: str):
        for name in ("asked", "ran"):
            (stubs / name).write_text("")
        surroundings = {"PATH": f"{stubs}:{os.environ['PATH']}", "STUBS": str(stubs), **environment}
        ended = subprocess.run(
            ["bash", *map(str, command)], cwd=cwd, env=surroundings, capture_output=True, text=True, check=False
        )
        return ended, *((stubs / name).read_text().splitlines() for name in ("asked", "ran"))

    return run


def say(checkout: Path, **settings: str) -> None:
    """Give variables of slurm/environment.sh these values."""
    file = checkout / "slurm/environment.sh"
    lines = file.read_text().splitlines()
    for name, value in settings.items():
        (place,) = (number for number, line in enumerate(lines) if line.startswith(f"{name}="))
        lines[place] = f"{name}={value}"
    file.write_text("\n".join(lines) + "\n")


def test_one_file_says_what_all_jobs_ask_for(checkout, bash):
    train = ["slurm/pretrain.sbatch", "pretrain/fcmae.py", "name=a b"]
    assert bash("slurm/submit.sh", *train)[1] == train, "nothing is asked for where nothing is said"
    assert bash("slurm/submit.sh", "slurm/cpu.sbatch", "data/prepare.py")[1] == ["slurm/cpu.sbatch", "data/prepare.py"]
    say(checkout, PARTITION="gpu", ACCOUNT="mine", GPUS_PER_NODE="a100:4", CPUS_PER_TASK="32", TIME="08:00:00")
    say(checkout, CPU_PARTITION="long", CPU_CPUS="16", CPU_TIME="2-00:00:00", MORE="(--qos=high)")
    asked = ["--account=mine", "--partition=gpu", "--gpus-per-node=a100:4", "--cpus-per-task=32", "--time=08:00:00"]
    ended, given, _ = bash("slurm/submit.sh", "--nodes", "4", *train)
    assert (ended.returncode, given) == (0, [*asked, "--qos=high", "--nodes", "4", *train])
    prepare = ["slurm/cpu.sbatch", "data/prepare.py", "images=x"]
    asked = ["--account=mine", "--partition=long", "--cpus-per-task=16", "--time=2-00:00:00", "--qos=high"]
    assert bash(checkout / "slurm/submit.sh", *prepare, cwd=checkout.parent)[1] == [*asked, *prepare]
    ended, given, _ = bash("slurm/submit.sh", "pretrain/fcmae.py")
    assert ended.returncode == 2 and not given and ended.stderr.startswith("error: no batch script")


@pytest.mark.parametrize("script", ["pretrain", "finetune", "study", "sweep", "cpu", "segment"])
@pytest.mark.parametrize("given", [[], ["nowhere/fcmae.py", "name=x"]])
def test_a_script_without_its_recipe_says_so_in_one_line(checkout, bash, script, given):
    ended, _, ran = bash(checkout / f"slurm/{script}.sbatch", *given, cwd=checkout.parent, **JOB)
    assert ended.returncode == 2 and not ran
    assert (
        ended.stderr.startswith("error: '") and ended.stderr.count("\n") == 1 and str(checkout.parent) in ended.stderr
    )


@pytest.mark.parametrize(("script", "file"), [("sweep", "configs/sweeps/sizes.yaml"), ("study", "listing.txt")])
def test_an_array_that_is_none_is_said_in_one_line(checkout, bash, script, file):
    (checkout / "listing.txt").write_text(f"{checkout}/pretrain/fcmae.py name=x\n")
    ended, _, ran = bash(f"slurm/{script}.sbatch", file, **JOB)
    assert ended.returncode == 2 and not ran
    assert ended.stderr.startswith("error: say which") and ended.stderr.count("\n") == 1


def test_a_container_stands_before_python_on_the_nodes(checkout, bash):
    say(checkout, CONTAINER="(apptainer exec --nv 'my image.sif')")
    recipe = "pretrain/fcmae.py"
    _, _, ran = bash("slurm/pretrain.sbatch", recipe, "store=a b.h5", "name=x", **JOB)
    start = ran.index("apptainer")
    words = ["apptainer", "exec", "--nv", "my image.sif", "python", f"{checkout}/slurm/launch.py", recipe]
    assert ran[start : start + 9] == [*words, "store=a b.h5", "name=x"]


def test_tasks_of_an_array_prepare_shards_with_the_cores_that_they_have(bash):
    command = ["slurm/cpu.sbatch", "data/prepare.py", "images=my set", "store=s/part-%a.h5", "shard=%a/32"]
    task = JOB | {"SLURM_ARRAY_TASK_ID": "7", "SLURM_CPUS_PER_TASK": "12"}
    assert bash(*command, **task)[2] == [command[1], "images=my set", "store=s/part-7.h5", "shard=7/32", "workers=12"]
    assert bash(*command, "workers=3", **task)[2][-2:] == ["shard=7/32", "workers=3"]
    ended, _, _ = bash(*command, ENDS="2", **task)
    assert ended.returncode == 2 and "ended with code 2: jobs that need it do not begin" in ended.stdout


def test_tasks_of_an_array_segment_shares_with_the_cores_that_they_have(checkout, bash):
    (checkout / "my set").mkdir()
    given = ["my set", "--out", "my results", "--shard", "%a/32"]
    task = JOB | {"SLURM_ARRAY_TASK_ID": "7", "SLURM_CPUS_PER_TASK": "12"}
    say(checkout, CONTAINER="(apptainer exec 'my image.sif')")
    ended, _, ran = bash("slurm/segment.sbatch", *given, **task)
    start = ["-m", "sempre.deploy.command", "segment", "my set", "--out", "my results", "--shard", "7/32"]
    assert ran[ran.index("-m") :] == [*start, "--threads", "12"], ended.stderr
    assert ran[:3] == ["apptainer", "exec", "my image.sif"]
    _, _, ran = bash("slurm/segment.sbatch", *given, "--threads=3", "--workers", "3", **task)
    assert ran[ran.index("-m") :] == [*start, "--threads=3", "--workers", "3"]
    # Slurm runs a copy of the script from elsewhere.
    copied = shutil.copy(checkout / "slurm/segment.sbatch", checkout.parent / "slurm_script")
    ended, _, ran = bash(copied, *given, SLURM_SUBMIT_DIR=str(checkout), **task)
    assert ended.returncode == 0 and ran[ran.index("-m") :][:8] == start
    ended, _, ran = bash(copied, "sempre", "--out", "o", cwd=checkout.parent, **task)
    assert ended.returncode == 2 and not ran and "is no checkout of sempre" in ended.stderr
    ended, _, ran = bash("slurm/segment.sbatch", *given, **JOB)
    assert ended.returncode == 2 and not ran and ended.stderr.startswith("error: say which shares")
    ended, _, _ = bash("slurm/segment.sbatch", *given, ENDS="1", **task)
    assert ended.returncode == 1 and "ended with code 1: mend what stands above" in ended.stdout


def test_a_requeue_that_slurm_refuses_is_said(bash):
    ended, _, _ = bash("slurm/pretrain.sbatch", "pretrain/fcmae.py", "name=x", ENDS="75", REFUSES="1", **JOB)
    assert ended.returncode == 75
    assert ended.stdout.splitlines()[-1].startswith("it did not go back, for Slurm refused: submit the same command")
    ended, _, _ = bash("slurm/pretrain.sbatch", "pretrain/fcmae.py", "name=x", ENDS="75", **JOB)
    assert ended.returncode == 75 and ended.stdout.rstrip().endswith("goes back to the queue")


@pytest.mark.parametrize(
    "asked", [{"SLURM_GPUS_PER_NODE": "a100:4"}, {"SLURM_GPUS_ON_NODE": "4"}, {"GPUS_PER_NODE": "1"}, {}]
)
def test_a_job_that_gets_no_gpu_where_one_was_asked_for_stops(asked):
    """The launcher blocks a signal as it is imported: in a process of its own."""
    code = (
        f"import runpy, sys; launcher = runpy.run_path({str(ROOT / 'slurm/launch.py')!r}); import torch\n"
        "torch.cuda.device_count = lambda: 0\n"
        "sys.exit(launcher['main'](['pretrain/fcmae.py']) if launcher['asked_gpus']() else 7)"
    )
    surroundings = {name: value for name, value in os.environ.items() if "GPU" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=surroundings | asked, capture_output=True, text=True, check=False
    )
    assert ended.returncode == (2 if asked else 7), ended.stderr
    if asked:
        assert ended.stderr.startswith(f"error: the job asked for GPUs ({next(iter(asked.values()))})")
        assert ended.stderr.count("\n") == 1


PAGE_STUBS = {
    "git": '[[ $1 == clone && -n $2 ]] && cp -r "$CHECKOUT" "$3"',
    "python3": 'mkdir -p "$3/bin"; for name in pip python tensorboard; do cp "$STUBS/tail" "$3/bin/$name"; done',
    "tail": 'printf "%s\\n" "$0" "$@" >>"$STUBS/ran"',
    "sbatch": '{ printf "%s\\n" "$@"; echo; } >>"$STUBS/asked"; touch pretrain-17.log; echo 17',
}


def test_the_blocks_of_the_clusters_page_work_as_pasted_in_order(checkout, tmp_path):
    """In one shell, from an empty folder; every recipe takes the options that the page gives it."""
    stubs, place = tmp_path / "stubs", tmp_path / "account"
    for folder in (stubs, place):
        folder.mkdir()
    for name, body in PAGE_STUBS.items():
        (stubs / name).write_text(f"#!/bin/bash\n{body}\n")
        (stubs / name).chmod(0o755)
    shutil.copytree(ROOT / "configs", checkout / "configs", dirs_exist_ok=True)
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL | re.MULTILINE)
    surroundings = {"PATH": f"{stubs}:/usr/bin:/bin", "STUBS": str(stubs), "CHECKOUT": str(checkout), "REPOSITORY": "x"}
    script = "set -euo pipefail\n" + "\n".join(blocks)
    ended = subprocess.run(["bash", "-c", script], cwd=place, env=surroundings, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    ran = (stubs / "ran").read_text()
    assert "pip\ninstall\n-e\n.[train]" in ran and "tensorboard\n--logdir\nruns/pico" in ran
    submitted = [block.splitlines() for block in (stubs / "asked").read_text().split("\n\n") if block]
    scripts = ["cpu", "cpu", "pretrain", "finetune", "sweep", "sweep"]
    assert [next(word for word in job if word.endswith(".sbatch")) for job in submitted] == [
        f"slurm/{name}.sbatch" for name in scripts
    ]
    for job in submitted:
        first = next(number for number, word in enumerate(job) if word.endswith(".sbatch"))
        _, recipe, *arguments = job[first:]
        if recipe.endswith(".py"):
            commands = [[recipe, *arguments]]
        else:
            runs = read_sweep(ROOT / recipe, arguments)
            commands = [run.command for run in runs]
            (last,) = (re.search(r"--array=0-(\d+)", word)[1] for word in job if word.startswith("--array"))
            assert int(last) == len(runs) - 1, "the page's array has all runs of the sweep"
        for recipe, *arguments in commands[:: max(1, len(commands) // 8)]:
            module = importlib.import_module(recipe.removesuffix(".py").replace("/", "."))
            arguments = [str(ROOT / word) if word.endswith(".yaml") else word.replace("%a", "1") for word in arguments]
            read_options(module.Options, arguments)
