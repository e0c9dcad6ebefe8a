"""Frozen backbones side by side within a budget of minutes: grey levels, random weights, FCMAE and DINO of one's own.

    python tools/evaluate.py                        # on a synthetic set that it renders itself
    python tools/evaluate.py data=path/to/set       # on labelled micrographs: images/ with labels/ or segmaps/
    python tools/evaluate.py data=path/to/set minutes=60 others=[dinov2_vits14_pretrain.pth]

It pretrains both backbones on the set's micrographs for a share of the time, then runs the recipes of evaluate/ as
anyone would, one command after the other, and prints each. Scored is a seeded subset that was held out of the
pretraining. An interrupted run goes on where it stopped; `runs/<name>/report.html` and `summary.json` hold one table.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sempre.config import read_options
from sempre.data.labelled import LabelledSet
from sempre.data.splits import seeded_subset
from sempre.data.store import Store
from sempre.errors import run_command
from sempre.files import write_json
from sempre.frozen.encoder import INTENSITY, RANDOM, open_encoder, split_layer
from sempre.ranges import Count, Positive, RunName, Seed
from sempre.report.chain_page import CELL, write_evaluation_report
from sempre.training.recipe_chain import Stages, begin_stages, folder_name, last_step, seconds_a_step

ROOT = Path(__file__).parents[1]
ARCHITECTURE = "convnextv2_atto"  # of both demo configurations
METHODS = ("fcmae", "dino")
SCALE = 0.5  # of the micrographs, in pretraining and evaluation alike
PROBE_EPOCHS = 2  # of each pretraining
EVALUATION_SHARE = 0.55  # of the budget, left to the recipes of evaluate/
SYNTHETIC = ("labelled=64", "unlabelled=64", "size=512", "magnifications=[medium]", "kinds=[sphere,polyhedron]")
SIDE_BY_SIDE = not torch.cuda.is_available() and (os.cpu_count() or 1) > 1


@dataclass
class Options:
    data: str = ""  # labelled micrographs; empty: a rendered set
    name: RunName = "evaluation"  # all results go to runs/<name>
    minutes: Positive = 15.0  # time budget of everything, minutes
    others: list[str] = field(default_factory=list)  # more backbones: folders, .pth files, …; @<layer> is optional
    training: Count = 80  # number of training micrographs
    validation: Count = 40  # number of held-out micrographs to score
    seed: Seed = 0  # random seed of the rendered set, the subset and the weights


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    folder, stages = begin_stages(options, options.name, ROOT)

    # Data: a labelled set, a subset of it to be scored, and a store of all its micrographs to pretrain on.
    labelled = Path(options.data) if options.data else folder / "data/labelled"
    if not options.data:
        stages.run("render", "data/synthesize.py", f"out={folder / 'data'}", f"seed={options.seed}", *SYNTHETIC)
    store = folder / "store.h5"
    stages.run("prepare", "data/prepare.py", f"images={labelled / 'images'}", f"store={store}", f"scale={SCALE}")
    split = stages.once("subset", lambda: write_subset(labelled, folder / "split.json", options))

    # Pretraining: as many epochs as the budget allows, measured first.
    crop = stages.once("crop", lambda: min(256, shortest_side(store) // 32 * 32))
    settings = {"fcmae": [f"crop={crop}"], "dino": [f"field={crop}"]}
    commands = {
        method: [
            f"pretrain/{method}.py",
            str(ROOT / f"configs/{method}/demo.yaml"),
            f"store={store}",
            f"seed={options.seed}",
            *settings[method],
        ]
        for method in METHODS
    }
    probes = [
        [*commands[method], f"name={options.name}/probe/{method}", f"epochs={PROBE_EPOCHS}"] for method in METHODS
    ]
    run(stages, "measure pretraining", probes)
    epochs = stages.once("plan", lambda: plan(options.minutes, folder, stages.seconds))
    trainings = [[*commands[method], f"name={options.name}/{method}", f"epochs={epochs[method]}"] for method in METHODS]
    run(stages, "pretrain", trainings)

    # Evaluation: every recipe on every backbone.
    own = {method.upper(): str(folder / method / "backbone") for method in METHODS}
    backbones = {"Intensity": INTENSITY, "Random weights": f"{RANDOM}{ARCHITECTURE}", **own}
    backbones |= {Path(other).name: other for other in options.others}
    backbones = stages.once("layers", lambda: with_layers(backbones))
    sizes = ["size=0", f"scale={SCALE}", f"seed={options.seed}"]
    shared = [f"data={labelled}", f"split_file={split}", *sizes]
    listed = f"backbones=[{','.join(backbones.values())}]"
    for recipe in ("knn", "linear", "clusters"):
        stages.run(recipe, f"evaluate/{recipe}.py", *shared, listed, f"name={options.name}/{recipe}")
    for title, backbone in backbones.items():
        name = f"{options.name}/prototypes/{folder_name(title)}"
        stages.run(f"prototypes: {title}", "evaluate/prototypes.py", *shared, f"backbone={backbone}", f"name={name}")
    classical = f"{options.name}/otsu_watershed"
    stages.run("watershed", "evaluate/watershed.py", f"data={labelled}", f"split_file={split}", f"name={classical}")
    discovery = [f"images={labelled / 'images'}", f"backbone={backbones['FCMAE']}", *sizes]
    stages.run("discover", "evaluate/discover.py", *discovery, f"name={options.name}/discovery")

    write_evaluation_report(folder, labelled, backbones, Path("runs") / classical, stages.seconds)
    minutes = sum(stages.seconds.values()) / 60
    print(f"\nThe report is {folder / 'report.html'} ({minutes:.1f} minutes of {options.minutes:g})")
    return 0


def with_layers(backbones: dict[str, str]) -> dict[str, str]:
    """The backbones, each with the layer that it is read out at: of those with cells of at most 16 px the deepest.

    That is the last block of a vision transformer and the last stage but one of a ConvNeXtV2. What names its layer
    keeps it.
    """
    chosen = {}
    for title, backbone in backbones.items():
        _, layer = split_layer(backbone)
        chosen[title] = backbone if layer is not None else f"{backbone}@{open_encoder(backbone).deepest(CELL)}"
    return chosen


def run(stages: Stages, stage: str, commands: list[list[str]]) -> None:
    """Run trainings, on CPUs side by side: one small network cannot keep two cores busy."""
    if SIDE_BY_SIDE:
        stages.run_together(stage, commands)
    else:
        for method, command in zip(METHODS, commands, strict=True):
            stages.run(f"{stage} {method}", *command)


def write_subset(labelled: Path, path: Path, options: Options) -> str:
    """A split file of a seeded subset of either side of the set's own split."""
    dataset = LabelledSet(labelled)
    training, validation = dataset.split()
    chosen = {
        "train": seeded_subset(training, options.training, options.seed),
        "validation": seeded_subset(validation, options.validation, options.seed),
    }
    write_json(path, {side: [dataset.names[index] for index in indices] for side, indices in chosen.items()})
    return str(path)


def shortest_side(store: Path) -> int:
    """Of the store's micrographs, px."""
    entries = Store(store).entries
    return int(min(entries.height.min(), entries.width.min()))


def plan(minutes: float, folder: Path, spent: dict[str, float]) -> dict[str, int]:
    """Epochs of each method that fit the minutes left, from the probes' logs."""
    left = 60 * minutes * (1 - EVALUATION_SHARE) - sum(spent.values())
    each = left if SIDE_BY_SIDE else left / len(METHODS)
    probes = {method: folder / "probe" / method for method in METHODS}
    epoch = {method: seconds_a_step(run) * last_step(run) / PROBE_EPOCHS for method, run in probes.items()}
    return {method: max(1, int(each / epoch[method])) for method in METHODS}


if __name__ == "__main__":
    run_command(main)
