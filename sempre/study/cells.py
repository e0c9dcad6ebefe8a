"""Run the cells of a study: here, some at a time, or as Slurm job arrays."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sempre.files import whole_or_absent
from sempre.study.design import FINISHED, STAGES, Cell, StudyOptions, cells_of, of_table
from sempre.training.preemption import EXIT_PREEMPTED

FAILED = "failed"  # a file in a cell's folder with the reason; it is tried again when the study is started again
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def cell_state(folder: Path, cell: Cell) -> tuple[str, str]:
    """`finished`, `failed` or `not run`, and why it failed."""
    if (folder / cell.name / FINISHED).exists():
        return "finished", ""
    failed = folder / cell.name / FAILED
    if failed.exists():
        return "failed", failed.read_text(encoding="utf-8")
    return "not run", ""


def run_cells(cells: Sequence[Cell], folder: Path, root: Path, parallel: int = 1) -> int:
    """Run those that have not finished, each after the one it needs; one that fails stops no other.

    Args:
        folder: `runs/<study>`; the cells' outputs go to `logs/` in it.
        root: where the recipes lie.

    Returns:
        0, or 75 when a signal stopped a cell, which is then not failed but goes on later.
    """
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    waiting = [cell for cell in cells if cell_state(folder, cell)[0] != "finished"]
    for cell in waiting:
        (folder / cell.name / FAILED).unlink(missing_ok=True)
    done, running, preempted = len(cells) - len(waiting), {}, False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_PREEMPTED))
    try:
        while running or (waiting and not preempted):
            unfinished = {cell.name for cell in [*waiting, *running]}
            for cell in [cell for cell in waiting if cell.needs not in unfinished]:
                if len(running) == parallel or preempted:
                    break
                waiting.remove(cell)
                print(f"[{done + len(running) + 1} of {len(cells)}] {cell.name}", flush=True)
                running[cell] = _start(cell, folder, root, parallel)
            for cell, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[cell]
                done += 1
                if code == 0:
                    (folder / cell.name / FINISHED).touch()
                elif code == EXIT_PREEMPTED:
                    preempted = True
                else:
                    _note_failure(cell, folder, code)
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return EXIT_PREEMPTED if preempted else 0


def _start(cell: Cell, folder: Path, root: Path, parallel: int) -> subprocess.Popen:
    environment = dict(os.environ)
    if parallel > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // parallel))
    command = [sys.executable, str(root / cell.command[0]), *cell.command[1:]]
    with (folder / "logs" / f"{cell.name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            # Else a study that is killed would leave a cell that holds its folder when the study is started again.
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def _note_failure(cell: Cell, folder: Path, code: int) -> None:
    log = (folder / "logs" / f"{cell.name}.log").read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    reason = (errors or lines or ["no output"])[-1]
    print(f"{cell.name} failed with code {code}: {reason}", file=sys.stderr, flush=True)
    (folder / cell.name).mkdir(parents=True, exist_ok=True)
    (folder / cell.name / FAILED).write_text(f"code {code}: {reason}", encoding="utf-8")


@dataclass(frozen=True)
class Job:
    """An array whose tasks run `cells`, the lines of its listing, or one command; it waits for `after`."""

    name: str
    tasks: int
    command: list[str]
    after: str = ""
    cells: tuple[Cell, ...] = ()


def study_jobs(
    cells: Sequence[Cell],
    folder: Path,
    root: Path,
    prepare: list[str],
    report: list[str],
    at_once: int,
    options: StudyOptions | None = None,
) -> list[Job]:
    """The store, the arrays that have cells, then the report; each waits for the end of the one before.

    Cells of a stage that want other numbers of nodes or hours than others, by the tables of `options`, are an array of
    their own.

    Pretraining begins after the store was prepared well (`afterok`), and is cancelled where it was not. A cell whose
    pretraining failed fails too, and the report shows it as missing: so the other jobs wait for the end of those before
    (`afterany`), not for their success.

    Args:
        prepare, report: scripts with their arguments.
        at_once: tasks of an array that run at the same time.
    """
    jobs = [Job("prepare", 1, _single("prepare", root, prepare))]
    for stage in STAGES:
        wanted: dict[tuple[str, ...], list[Cell]] = {}
        for cell in cells_of(cells, stage):
            wanted.setdefault(_wanted(cell, options), []).append(cell)
        for number, (flags, own) in enumerate(wanted.items(), 1):
            name = stage if len(wanted) == 1 else f"{stage}_{number}"
            listing = str(folder / "jobs" / f"{name}.txt")
            array = f"--array=0-{len(own) - 1}%{at_once}"
            script = str(root / "slurm/study.sbatch")
            command = [array, f"--job-name={name}", *flags, script, listing]
            jobs.append(Job(name, len(own), command, jobs[-1].name, tuple(own)))
    return [*jobs, Job("report", 1, _single("report", root, report), jobs[-1].name)]


def _wanted(cell: Cell, options: StudyOptions | None) -> tuple[str, ...]:
    """Flags of sbatch for a cell's nodes and time limit, where the options say them."""
    if options is None:
        return ()
    nodes, hours = (of_table(table, cell.recipe, cell.size, 0) for table in (options.nodes, options.hours))
    return (*([f"--nodes={nodes}"] if nodes else []), *([f"--time={hours}:00:00"] if hours else []))


def _single(name: str, root: Path, script: list[str]) -> list[str]:
    return [f"--job-name={name}", str(root / "slurm/cpu.sbatch"), str(root / script[0]), *script[1:]]


def write_jobs(jobs: Sequence[Job], folder: Path, root: Path, options: Sequence[str] = ()) -> Path:
    """Write each array's listing, a cell's command a line, and `jobs/submit.sh`, which submits all and prints their
    numbers: its path. Jobs run where `runs/` lies, which need not be the checkout at `root`."""
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    for job in (job for job in jobs if job.cells):
        with whole_or_absent(folder / "jobs" / f"{job.name}.txt") as partial:
            commands = [[str(root / cell.command[0]), *cell.command[1:]] for cell in job.cells]
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
