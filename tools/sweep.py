"""What a sweep has come to: one table of all its runs, and how to start those that have not finished.

    python tools/sweep.py sweep=configs/sweeps/sizes.yaml
    python tools/sweep.py sweep=configs/sweeps/sizes.yaml here=true
    slurm/submit.sh --array=0-319 slurm/sweep.sbatch configs/sweeps/sizes.yaml

The first command prints the table and writes it as CSV (`runs/sizes.csv`), and below it means and deviations over the
seeds (`runs/sizes_seeds.csv`). The others run what has not finished, however often they are given: one after another on
this machine, or as a job array. sempre/training/sweeps.py says what a sweep file holds.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.files import write_csv
from sempre.ranges import CountOrAuto
from sempre.training.sweeps import read_sweep, run_here

ROOT = Path(__file__).parents[1]


@dataclass
class Options:
    sweep: str = "???"  # the sweep's YAML file
    csv: str = ""  # file for the table; empty: runs/<sweep>.csv
    run: CountOrAuto = -1  # print this run's command, one word a line, if it has not finished; -1: off
    options: list[str] = field(default_factory=list)  # options that replace the file's, for example [data=my_set]
    here: bool = False  # first run the unfinished runs on this machine, one after another


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    runs = read_sweep(options.sweep, options.options)
    if options.run >= 0:
        if options.run >= len(runs):
            raise InputError(f"run={options.run}: {options.sweep} has {len(runs)} runs, use --array=0-{len(runs) - 1}")
        run = runs[options.run]
        print("\n".join([] if run.finished else run.command))
        return 0
    code = run_here(runs, ROOT) if options.here else 0

    # Brings torch, which a task that asks for its command need not await.
    from sempre.training.sweeps import seeds_table, sweep_table

    rows = sweep_table(runs)
    path = Path(options.csv or f"runs/{Path(options.sweep).stem}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, rows)
    print_table(rows)
    if over_seeds := seeds_table(runs, rows):
        seeds_path = path.with_name(f"{path.stem}_seeds.csv")
        write_csv(seeds_path, over_seeds)
        print()
        print_table(over_seeds)
        print(f"table in {seeds_path}")
    finished = sum(run.finished for run in runs)
    print(f"{finished} of {len(runs)} runs have finished; table in {path}")
    if finished < len(runs):
        print(f"run the others: python tools/sweep.py sweep={options.sweep} here=true")
        print(f"on a cluster: sbatch --array=0-{len(runs) - 1} slurm/sweep.sbatch {options.sweep}")
    return code


def columns(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def print_table(rows: list[dict]) -> None:
    names = columns(rows)
    shown = [names] + [[shorten(row.get(name, "")) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def shorten(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run_command(main)
