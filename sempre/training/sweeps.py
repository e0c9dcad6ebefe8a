"""Sweeps: a YAML file names a recipe and the values to vary, every combination is a run; and their tables.

recipe: finetune/mask_rcnn.py
    config: configs/mask_rcnn/gpu.yaml          # may be left out
    options:                                    # the same for every run
      data: my_set
    vary:
      size:                                     # labels, each with the options it stands for
        atto: {architecture: convnextv2_atto}
        pico: {architecture: convnextv2_pico}
      arm:
        random: {backbone: none}
        fcmae: {backbone: runs/fcmae_$size/backbone}     # $size is the run's label of that name
      seed: [0, 1, 2]                           # or simply the values of the option of that name
    against: random                             # the label that the others are compared with; may be left out
    once:                                       # further runs, which nothing varies; may be left out
      watershed: {recipe: evaluate/watershed.py, data: $data}    # $data is that of `options`

A label may stand for another `recipe` and `config` too, so that one table compares methods.
The runs' names are derived from the file's name and the labels: `runs/<sweep>/atto-random-0`, and so on.
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from string import Template

from omegaconf import OmegaConf

from sempre.config import yaml_file
from sempre.errors import InputError
from sempre.metrics import error_reduction_rate
from sempre.training.preemption import EXIT_PREEMPTED
from sempre.training.run_folder import read_log

KEYS = {"recipe", "config", "options", "vary", "against", "once"}
FINISHED = "finished"  # an empty file in a run's folder, left when the recipe has ended well


@dataclass(frozen=True)
class SweepRun:
    """One combination of a sweep's values."""

    name: str  # the run goes to runs/<name>
    labels: dict[str, str]  # what is varied -> this run's label
    command: list[str]  # the recipe and its arguments
    against: str = ""  # the name of the run that it is compared with

    @property
    def folder(self) -> Path:
        return Path("runs") / self.name

    @property
    def finished(self) -> bool:
        return (self.folder / FINISHED).exists()


def read_sweep(path: str | Path, given: Sequence[str] = ()) -> list[SweepRun]:
    """All runs of the sweep, in an order that depends on the file alone: run k is task k of the job array.

    Args:
        given: `key=value`, in the place of those under `options` in the file, such as `data=my_set`.

    Raises:
        InputError: when the file is missing or not as described above, or two runs would have the same name.
    """
    path = yaml_file(path)
    sweep = _read_yaml(path)
    axes = {str(axis): _choices(path, str(axis), values, "vary.") for axis, values in sweep["vary"].items()}
    common = {"recipe": sweep["recipe"], "config": sweep.get("config"), **(sweep.get("options") or {})}
    named = dict(common)  # what further runs may name
    for pair in given:
        key, equals, value = pair.partition("=")
        if not key or not equals or key in ("recipe", "config", *axes):
            raise InputError(f"options=[{pair}] cannot be given: give key=value of what the sweep does not vary")
        named[key] = value
        common[key] = value.replace("$", "$$")  # as it is: only the file's values name labels
    runs = []
    for combination in itertools.product(*(choices.items() for choices in axes.values())):
        labels = dict(zip(axes, (label for label, _ in combination), strict=True))
        options = dict(common)
        for _, chosen in combination:
            options |= chosen
        runs.append(_run(path, labels, options, labels))
    if "against" in sweep:
        runs = [_compared(path, run, str(sweep["against"]), axes) for run in runs]
    for label, options in _choices(path, "once", sweep["once"]).items() if "once" in sweep else ():
        runs.append(_run(path, {next(iter(axes)): label}, {"recipe": sweep["recipe"], **options}, named))
    names = [run.name for run in runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"{path}: two runs would be named {min(twice)}: choose labels that differ in letters or digits"
        )
    return runs


def run_here(runs: Sequence[SweepRun], root: Path) -> int:
    """Run those that have not finished on this machine, one after another; one that fails stops no other.

    Args:
        root: where the recipes lie.

    Returns:
        The exit code: 0 when all have finished, 75 when a signal has stopped one, which goes on later, else 1.
    """
    failed = []
    waiting = [run for run in runs if not run.finished]
    for number, run in enumerate(waiting, 1):
        print(f"\n[{number} of {len(waiting)}] {run.name}", flush=True)
        with subprocess.Popen([sys.executable, str(root / run.command[0]), *run.command[1:]]) as process:
            code = process.wait()
        if code == EXIT_PREEMPTED:
            return code
        if code:
            failed.append(run.name)
        else:
            (run.folder / FINISHED).touch()
    if failed:
        print(f"{len(failed)} failed, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(path: Path, labels: dict[str, str], options: dict, names: Mapping[str, object]) -> SweepRun:
    """One run; `names` are what its options may have put in."""
    options = dict(options)
    recipe, config = options.pop("recipe"), options.pop("config", None)
    name = _name(path, labels)
    arguments = [f"{option}={_argument(path, value, names)}" for option, value in options.items()]
    return SweepRun(name, labels, [recipe, *([config] if config else []), *arguments, f"name={name}"])


def _name(path: Path, labels: Mapping[str, str]) -> str:
    return f"{path.stem}/" + "-".join(re.sub(r"[^\w.+=]+", "_", label) for label in labels.values())


def _compared(path: Path, run: SweepRun, label: str, axes: Mapping[str, Mapping]) -> SweepRun:
    """The run, with the name of that which differs from it by having `label`; unless it is that itself."""
    holding = [axis for axis, choices in axes.items() if label in choices]
    if len(holding) != 1:
        raise InputError(f"{path}: against: {label} must be a label of one thing that is varied, not of {len(holding)}")
    other = _name(path, run.labels | {holding[0]: label})
    return run if other == run.name else replace(run, against=other)


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"the sweep {path} does not exist")
    try:
        sweep = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # the YAML parser's own exceptions are many
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(sweep, dict) or not sweep.get("recipe") or not isinstance(sweep.get("vary"), dict):
        raise InputError(f"{path} must name a `recipe` and what to `vary` (see sempre/training/sweeps.py)")
    if unknown := set(map(str, sweep)) - KEYS:
        raise InputError(f"{path}: '{min(unknown)}' is unknown: a sweep has {', '.join(sorted(KEYS))}")
    return sweep


def _choices(path: Path, axis: str, values: list | dict, of: str = "") -> dict[str, dict]:
    """Label -> options, for one thing that is varied."""
    if isinstance(values, list) and values:
        return {str(value): {axis: value} for value in values}
    if isinstance(values, dict) and values and all(isinstance(options, dict) for options in values.values()):
        return {str(label): options for label, options in values.items()}
    raise InputError(f"{path}: {of}{axis} must be a list of values, or labels each with its options")


def _argument(path: Path, value: object, names: Mapping[str, object]) -> str:
    """A value as the command line takes it, with what it names put in."""
    if isinstance(value, str):
        try:
            return Template(value).substitute(names)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: '{value}' names a label that is not varied: {error}") from error
    return json.dumps(value, ensure_ascii=False)


SEED = "seed"  # the axis over which scores are averaged
GROUP_SCORES = ("samples", "aji_plus", "correct", "missed", "false_positives", "dice")


def sweep_table(runs: list[SweepRun]) -> list[dict[str, str | float]]:
    """One row a run, finished or not: name, labels, state, steps, validation losses, and the scores' means."""
    return [
        {"name": run.name, **run.labels, "state": _state(run), **_losses(run.folder), **_scores(run.folder)}
        for run in runs
    ]


def seeds_table(runs: Sequence[SweepRun], rows: Sequence[Mapping]) -> list[dict[str, str | float]]:
    """AJI+ over the seeds: mean, deviation (of the sample), and the ERR in per cent against what a run names.

    A row for each combination of the other labels that has a finished run. There is an ERR where both have finished
    with the same seeds.

    Args:
        rows: of `sweep_table`.
    """
    scores: dict[tuple, dict[str, float]] = {}
    members: dict[tuple, SweepRun] = {}
    group_of = {run.name: tuple((axis, label) for axis, label in run.labels.items() if axis != SEED) for run in runs}
    for run, row in zip(runs, rows, strict=True):
        if run.finished and "aji_plus" in row:
            scores.setdefault(group_of[run.name], {})[run.labels.get(SEED, "")] = row["aji_plus"]
            members[group_of[run.name]] = run
    table = []
    for group, by_seed in scores.items():
        mean = fmean(by_seed.values())
        line = {**dict(group), "runs": len(by_seed), "aji_plus": mean}
        if len(by_seed) > 1:
            line["sd"] = stdev(by_seed.values())
        other = scores.get(group_of.get(members[group].against, ()), {})
        if set(other) == set(by_seed):
            line["ERR %"] = error_reduction_rate(1 - fmean(other.values()), 1 - mean)
        table.append(line)
    return table


def _state(run: SweepRun) -> str:
    if run.finished:
        return "finished"
    return "unfinished" if run.folder.exists() else "not started"


def _losses(folder: Path) -> dict[str, float]:
    log = read_log(folder / "log.jsonl")
    losses = [line["loss"] for line in log if line["kind"] == "validation"]
    row = {"steps": log[-1]["step"]} if log else {}
    return row | ({"validation_loss": losses[-1], "lowest_validation_loss": min(losses)} if losses else {})


def _scores(folder: Path) -> dict[str, float | str]:
    """Means of the scores in a fine-tuning's summary.json, AJI+ of each group, and what its first weights were."""
    summary = folder / "summary.json"
    if not summary.exists():
        return {}
    content = json.loads(summary.read_text(encoding="utf-8"))
    overall = content.get("refined") or content.get("scores", {})  # of finetune/unet.py; of the others
    row = {name: score["mean"] for name, score in overall.items() if _has_mean(score)}
    for group, scores in content.get("groups", {}).items():
        row |= {f"{name} {group}": scores[name]["mean"] for name in GROUP_SCORES if _has_mean(scores.get(name))}
    started = {repeat["initial_weights"] for repeat in content.get("repeats", []) if "initial_weights" in repeat}
    return row | ({"initial_weights": ", ".join(sorted(started))} if started else {})


def _has_mean(score: object) -> bool:
    return isinstance(score, dict) and score.get("mean") is not None
