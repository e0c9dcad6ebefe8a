"""The whole chain, from micrographs to a deployable segmenter and a report, within a budget of minutes.

    python tools/demo.py                        # on a synthetic set that it renders itself
    python tools/demo.py data=path/to/set       # on labelled micrographs: images/ with labels/ or segmaps/
    python tools/demo.py data=path/to/set minutes=60

It runs the recipes as anyone would, one command after the other, and prints each. An interrupted demo goes on where it
stopped; `runs/<name>/report.html` and `summary.json` hold what was measured.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import OmegaConf

from sempre.config import read_options
from sempre.data.labelled import LabelledSet
from sempre.data.store import Store
from sempre.errors import run_command
from sempre.files import write_json
from sempre.models.packed import PATCH
from sempre.ranges import Positive, RunName, Seed
from sempre.report.chain_page import write_chain_report
from sempre.training.recipe_chain import begin_stages, folder_name, last_step, seconds_a_step

ROOT = Path(__file__).parents[1]
PRETRAINING, FINE_TUNING = ROOT / "configs/spark/demo.yaml", ROOT / "configs/dense/demo.yaml"
PRETRAINING_SHARE, FINE_TUNING_SHARE = 0.15, 0.75  # of the time left; validations and figures take the rest
PROBE_EPOCHS = 2  # of pretraining, and of fine-tuning
PROBE_CROPS = 100  # that such an epoch of fine-tuning has
RESERVE = 60  # seconds for starting processes, the export and the report
# On CPUs the arms are fine-tuned side by side, for a small network's layers cannot keep two cores busy.
SIDE_BY_SIDE = not torch.cuda.is_available() and (os.cpu_count() or 1) > 1
# What can be learnt in minutes: no specks, and enough fields to tell arms apart.
SYNTHETIC = ("labelled=48", "unlabelled=96", "size=512", "magnifications=[medium]", "kinds=[sphere,polyhedron]")
BASELINE, RELEASED, ARMS = "Otsu + watershed", "Released model", ("No pretraining", "SparK")


@dataclass
class Options:
    data: str = ""  # labelled micrographs; empty: a rendered set
    name: RunName = "demo"  # all results go to runs/<name>
    minutes: Positive = 12.0  # time budget of the whole demo, minutes
    synthetic: list[str] = field(default_factory=lambda: list(SYNTHETIC))  # the set, as options of data/synthesize.py
    seed: Seed = 0  # random seed of the rendered set, weights and crops


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    folder, stages = begin_stages(options, options.name, ROOT)

    # Data: a labelled set, and a store of what is to be pretrained on.
    labelled = Path(options.data) if options.data else folder / "data/labelled"
    micrographs = labelled / "images" if options.data else folder / "data/unlabelled"
    store = folder / "store.h5"
    if not options.data:
        stages.run("render", "data/synthesize.py", f"out={folder / 'data'}", f"seed={options.seed}", *options.synthetic)
    stages.run("prepare", "data/prepare.py", f"images={micrographs}", f"store={store}")

    # The budget, in epochs: what the machine does in a minute is measured first.
    crop = stages.once("crop", lambda: largest_crop(store))
    pretraining = ["pretrain/spark.py", str(PRETRAINING), f"store={store}", f"crop={crop}", f"seed={options.seed}"]
    fine_tuning = ["finetune/dense.py", str(FINE_TUNING), f"data={labelled}", f"seed={options.seed}"]
    probe = f"name={options.name}/probe"
    stages.run("measure pretraining", *pretraining, f"{probe}/spark", f"epochs={PROBE_EPOCHS}")
    split = stages.once("small split", lambda: small_split(labelled, folder / "probe/split.json"))
    measured = [f"split_file={split}", f"epochs={PROBE_EPOCHS}", f"crops_an_epoch={PROBE_CROPS}"]
    probes = [[*fine_tuning, *measured, f"{probe}/dense_{number}"] for number in range(2 if SIDE_BY_SIDE else 1)]
    stages.run_together("measure fine-tuning", probes)
    epochs = stages.once("plan", lambda: plan(options.minutes, folder, labelled, stages.seconds))

    # Methods: pretrain, then fine-tune both arms alike, beside two that learn nothing here.
    name = f"{options.name}/pretraining"
    stages.run("pretrain", *pretraining, f"name={name}", f"epochs={epochs['pretraining']}")
    arms = [
        [f"name={options.name}/{folder_name(arm)}", f"backbone={backbone}", f"epochs={epochs['fine-tuning']}"]
        for arm, backbone in zip(ARMS, ("none", folder / "pretraining/backbone"), strict=True)
    ]
    arms = [[*fine_tuning, *arm] for arm in arms]
    if SIDE_BY_SIDE:
        stages.run_together("fine-tune both arms", arms)
    else:
        for name, arm in zip(ARMS, arms, strict=True):
            stages.run(f"fine-tune {name}", *arm)
    for arm, recipe in ((BASELINE, "evaluate/watershed.py"), (RELEASED, "evaluate/bundle.py")):
        stages.run(f"score {arm}", recipe, f"data={labelled}", f"name={options.name}/{folder_name(arm)}")

    # Deployment: a bundle, and some held-out micrographs through it as on the microscope's PC.
    run, bundle = folder / folder_name(ARMS[-1]) / "repeat-0", folder / "bundle"
    stages.run("export", "tools/export_onnx.py", f"run={run}", f"out={bundle}")
    held_out = [str(path) for path in validation_micrographs(labelled)[:3]]
    segment = ["segment", *held_out, "--model", str(bundle), "--out", str(folder / "segmented")]
    stages.run("segment", "-m", "sempre.deploy.command", *segment)

    names = {arm: folder_name(arm) for arm in (BASELINE, RELEASED, *ARMS)}
    write_chain_report(folder, labelled, names, stages.seconds)
    minutes = sum(stages.seconds.values()) / 60
    print(f"\nThe report is {folder / 'report.html'} ({minutes:.1f} minutes of {options.minutes:g})")
    return 0


def plan(minutes: float, folder: Path, labelled: Path, spent: dict[str, float]) -> dict[str, int]:
    """Epochs of pretraining and of each arm's fine-tuning that fit the minutes left, from the probes' logs."""
    training, validation = LabelledSet(labelled).split()
    config = OmegaConf.load(FINE_TUNING)
    run = folder / "probe/dense_0/repeat-0"
    seconds_a_micrograph = json.loads((run / "summary.json").read_text(encoding="utf-8"))["seconds_a_micrograph"]
    in_turn = 1 if SIDE_BY_SIDE else len(ARMS)
    scored = len(validation) + len(training) // 10  # the latter choose the thresholds
    scoring = (in_turn + 1) * scored * seconds_a_micrograph  # the released model is scored too
    left = 60 * minutes - sum(spent.values()) - RESERVE - scoring
    probe = folder / "probe/spark"
    pretraining_epoch = seconds_a_step(probe) * last_step(probe) / PROBE_EPOCHS
    fine_tuning_epoch = seconds_a_step(run) * config.crops_an_epoch / config.batch
    return {
        "pretraining": max(1, int(PRETRAINING_SHARE * left / pretraining_epoch)),
        "fine-tuning": max(1, int(FINE_TUNING_SHARE / in_turn * left / fine_tuning_epoch)),
    }


def small_split(labelled: Path, path: Path) -> str:
    """A split file of eight training micrographs and one validation micrograph, to measure a step on."""
    dataset = LabelledSet(labelled)
    training, validation = dataset.split()
    sides = {"train": [dataset.names[index] for index in training[:8]], "validation": [dataset.names[validation[0]]]}
    write_json(path, sides)
    return str(path)


def largest_crop(store: Path) -> int:
    """The largest crop, up to that of the configuration, that every micrograph of the store holds."""
    entries = Store(store).entries
    short_side = int(min(entries.height.min(), entries.width.min()))
    return min(OmegaConf.load(PRETRAINING).crop, short_side // PATCH * PATCH)


def validation_micrographs(labelled: Path) -> list[Path]:
    dataset = LabelledSet(labelled)
    return [dataset.images[index] for index in dataset.split()[1]]


if __name__ == "__main__":
    run_command(main)
