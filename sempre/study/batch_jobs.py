"""A study as Slurm job arrays with dependencies: prepare, pretrain, fine-tune, report."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sempre.files import whole_or_absent
from sempre.study.plan import Cell, cells_of

STAGES = ("pretrain", "finetune")


@dataclass(frozen=True)
class Job:
    """An array of `tasks` whose commands are the lines of `listing`, or one command; it waits for `after`."""

    name: str
    tasks: int
    command: list[str]
    after: str = ""


def study_jobs(
    cells: Sequence[Cell], folder: Path, root: Path, prepare: list[str], report: list[str], at_once: int
) -> list[Job]:
    """The store, the arrays that have cells, then the report; each waits for the end of the one before.

    Pretraining begins after the store was prepared well (`afterok`), and is cancelled where it was not. A cell whose
    pretraining failed fails too, and the report shows it as missing: so the other jobs wait for the end of those before
    (`afterany`), not for their success.

    Args:
        prepare, report: scripts with their arguments.
        at_once: tasks of an array that run at the same time.
    """
    jobs = [Job("prepare", 1, _single("prepare", root, prepare))]
    for stage in STAGES:
        if tasks := len(cells_of(cells, stage)):
            listing = str(folder / "jobs" / f"{stage}.txt")
            array = f"--array=0-{tasks - 1}%{at_once}"
            script = str(root / "slurm/study.sbatch")
            jobs.append(Job(stage, tasks, [array, f"--job-name={stage}", script, listing], jobs[-1].name))
    return [*jobs, Job("report", 1, _single("report", root, report), jobs[-1].name)]


def _single(name: str, root: Path, script: list[str]) -> list[str]:
    return [f"--job-name={name}", str(root / "slurm/cpu.sbatch"), str(root / script[0]), *script[1:]]


def write_jobs(
    jobs: Sequence[Job], cells: Sequence[Cell], folder: Path, root: Path, options: Sequence[str] = ()
) -> Path:
    """Write each array's listing, a cell's command a line, and `jobs/submit.sh`, which submits all and prints their
    numbers: its path. Jobs run where `runs/` lies, which need not be the checkout at `root`."""
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        with whole_or_absent(folder / "jobs" / f"{stage}.txt") as partial:
            commands = [[str(root / cell.command[0]), *cell.command[1:]] for cell in cells_of(cells, stage)]
            partial.write_text("".join(f"{shlex.join(command)}\n" for command in commands))
    script = folder / "jobs/submit.sh"
    with whole_or_absent(script) as partial:
        begin = ["#!/bin/bash", "set -euo pipefail", 'cd "$(dirname "$0")/../../.."']
        submit = shlex.quote(str(root / "slurm/submit.sh"))
        begin += ["# With what slurm/environment.sh says of the cluster.", f'sbatch() {{ {submit} "$@"; }}']
        told = [f'echo "{job.name}: job ${job.name}"' for job in jobs]
        lines = [submission(job, options) for job in jobs]
        partial.write_text("\n".join([*begin, *lines, *told, ""]))
    script.chmod(0o755)
    return script


def submission(job: Job, options: Sequence[str] = ()) -> str:
    """The line of the script that submits the job, with further `options` of sbatch, and keeps its number under its
    name."""
    waits = ""
    if job.after == "prepare":
        waits = f"--dependency=afterok:${job.after} --kill-on-invalid-dep=yes "
    elif job.after:
        waits = f"--dependency=afterany:${job.after} "
    return f"{job.name}=$(sbatch --parsable {waits}{shlex.join([*options, *job.command])})"
