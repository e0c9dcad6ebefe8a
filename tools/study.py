"""Compare ways to begin, sizes and numbers of images on your own micrographs: one command, one report.

    python tools/study.py                                                            # a small rendered set, in minutes
    python tools/study.py configs/studies/cpu-night.yaml data=my_set unlabelled=my_micrographs
    python tools/study.py configs/studies/paper.yaml data=my_set unlabelled=my_micrographs dry_run=true
    python tools/study.py configs/studies/paper.yaml data=my_set unlabelled=my_micrographs run=slurm

After Rettenberger et al. (doi 10.1038/s41524-025-01802-3): methods x arms x sizes x repeats, each a cell that one of
the recipes computes. It goes on where it was when it is started again, whatever stopped it; a cell that fails is shown
as missing in `runs/<name>/report.html` and tried again the next time. docs/study.md explains each figure.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sempre.config import read_options
from sempre.data.groups import read_groups
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError, run_command
from sempre.files import read_json, write_json
from sempre.frozen.insides import check_grad_cam
from sempre.images import find_micrographs
from sempre.ranges import Count
from sempre.report.study_page import Study, write_study_report
from sempre.study.cells import run_cells, study_jobs, submission, write_jobs
from sempre.study.cost import curve_lines, memory_lines, plan_summary
from sempre.study.design import (
    Cell,
    StudyOptions,
    check_options,
    is_opened,
    missing_imagenet,
    plan_cells,
    training_images,
)
from sempre.study.results import Result, read_results, read_samples
from sempre.training.run_folder import lock_run

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs/studies/demo.yaml"
SHOWN = 6  # names of further cells of a recipe and arm in a dry run


@dataclass(kw_only=True)
class Options(StudyOptions):
    run: Literal["here", "slurm", "report"] = "here"  # slurm: write job arrays; report: of finished cells
    dry_run: bool = False  # only list the cells and jobs and their costs
    sbatch: list[str] = field(default_factory=list)  # run=slurm: options of all jobs, after slurm/environment.sh
    at_once: Count = 20  # tasks of a Slurm array that run at once


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if not any(argument.endswith((".yaml", ".yml")) for argument in arguments):
        arguments = [str(DEMO), *arguments]
    options = read_options(Options, arguments)
    check_options(options)
    if bool(options.data) != bool(options.unlabelled):
        raise InputError("data= and unlabelled= go together: give both, or neither for a rendered set")
    if not options.data and not options.render:
        raise InputError("data= must be given: a folder of labelled micrographs, and unlabelled= one to pretrain on")
    folder = Path("runs") / options.name
    if not options.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        if options.run == "here":
            lock_run(folder)

    # Data: a labelled set, and a store of what is to be pretrained on.
    data, unlabelled = (Path(options.data), Path(options.unlabelled))
    if not options.data:
        data, unlabelled = folder / "data/labelled", folder / "data/unlabelled"
        recipe("data/synthesize.py", f"out={folder / 'data'}", *options.render)
    store = folder / "store.h5"
    prepare = ["data/prepare.py", f"images={unlabelled}", f"store={store}", *options.prepare]
    labelled = LabelledSet(data)
    splits = labelled.splits(split_file=options.split_file or None)
    if not len(splits.held_out):
        raise InputError(f"no micrograph of {data} is held out to be scored: add some, or give split_file=")
    images = len(find_micrographs(unlabelled))

    # Cells: every pretraining, then every fine-tuning.
    cells = plan_cells(options, data, store, images, len(splits.training))
    left_out = left_out_arms(options)
    plan = [*left_out, *curve_lines(cells, options), *memory_lines(cells, options)]
    plan += plan_summary(cells, options, folder, options.parallel)
    again = [argument for argument in arguments if not argument.startswith(("run=", "dry_run="))]
    report = ["tools/study.py", *again, "run=report"]
    jobs = study_jobs(cells, folder, ROOT, prepare, report, options.at_once, options)
    if options.dry_run:
        print("\n".join(shortened(cells)))
        print("\n".join(["as jobs:", *(submission(job, options.sbatch) for job in jobs), *plan]))
        return 0
    print("\n".join(plan))
    # Once, before the first cell: a label image that does not fit must not be told after a night of pretraining.
    if options.run != "report" and not store.exists():
        labelled.read_through(range(len(labelled)))
    if options.run == "slurm":
        print(f"submit all: {write_jobs(jobs, folder, ROOT, options.sbatch)}")
        return 0
    if options.run == "here":
        recipe(*prepare)
        code = run_cells(cells, folder, ROOT, options.parallel)
        if code:
            return code

    # Report: the classical baseline takes seconds and stands in every figure.
    split = [f"split_file={options.split_file}"] if options.split_file else []
    watershed = folder / "watershed"
    if not (watershed / "summary.json").exists():
        recipe("evaluate/watershed.py", f"data={data}", *split, f"name={options.name}/watershed")
    groups = read_groups(options.groups, labelled.paths)
    results = read_results(folder, cells)
    left_out += look_inside(options, results, [f"data={data}", *split, f"name={options.name}/insides"])
    baseline = read_samples(watershed)
    told = write_study_report(
        Study(options, folder, results, baseline, groups, training_images(images), len(splits.training), left_out)
    )
    write_json(folder / "summary.json", told)
    missing = f", {len(told['missing'])} cells are missing" if told["missing"] else ""
    print(f"The report is {folder / 'report.html'}{missing}")
    return 0


def shortened(cells: Sequence[Cell]) -> list[str]:
    """A page of the cells: of each recipe and arm the first command, and the names of some others."""
    lines = []
    for kind in dict.fromkeys((cell.recipe, cell.arm) for cell in cells):
        first, *others = [cell for cell in cells if (cell.recipe, cell.arm) == kind]
        lines.append(f"{first.name}: {' '.join(first.command)}")
        if others:
            some = ", ".join(cell.name for cell in others[:SHOWN])
            lines.append(f"  and {len(others)} more: {some}{', …' if len(others) > SHOWN else ''}")
    return lines


def left_out_arms(options: Options) -> list[str]:
    lacking = missing_imagenet(options)
    if not lacking:
        return []
    return [
        f"The arm ImageNet is left out for {', '.join(lacking)}: there is no file {options.imagenet}. Put the weights "
        "there, or give imagenet=FILE with {size} in the place of the size."
    ]


def look_inside(options: Options, results: list[Result], arguments: list[str]) -> list[str]:
    """Feature maps and activation maps of the first method's first repeats; a sentence where they are left out."""
    runs = [
        Path("runs") / options.name / result.cell.name
        for result in results
        if result.state == "finished" and is_opened(result.cell, options)
    ]
    summary = Path("runs") / options.name / "insides/summary.json"
    if not runs or (summary.exists() and set(read_json(summary)["feature_maps"]) == {run.name for run in runs}):
        return []
    try:
        check_grad_cam()
    except InputError as error:
        return [f"Feature maps and activation maps are left out: {error}"]
    recipe("evaluate/insides.py", f"runs=[{','.join(map(str, runs))}]", *arguments)
    return []


def recipe(script: str, *arguments: str) -> None:
    """Raises:
    InputError: when it fails; its own message stands above.
    """
    code = subprocess.call([sys.executable, str(ROOT / script), *arguments])
    if code:
        raise InputError(f"{script} ended with code {code}: see above, then start again")


if __name__ == "__main__":
    run_command(main)
