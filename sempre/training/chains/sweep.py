"""Sweeps: one YAML file names a recipe and the values to vary; every combination of the values is one run.

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

A label may stand for another `recipe` and `config` too, so that one table compares methods.
The runs' names are derived from the file's name and the labels: `runs/<sweep>/atto-random-0`, and so on.
"""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from sempre.errors import InputError

KEYS = {"recipe", "config", "options", "vary"}
GROUP_SCORES = ("samples", "aji_plus", "correct", "missed", "false_positives", "dice")
FINISHED = "finished"  # an empty file in a run's folder, left when the recipe has ended well


@dataclass(frozen=True)
class SweepRun:
    """One combination of a sweep's values."""

    name: str  # the run goes to runs/<name>
    labels: dict[str, str]  # what is varied -> this run's label
    command: list[str]  # the recipe and its arguments

    @property
    def folder(self) -> Path:
        return Path("runs") / self.name

    @property
    def finished(self) -> bool:
        return (self.folder / FINISHED).exists()


def read_sweep(path: str | Path) -> list[SweepRun]:
    """All runs of the sweep, in an order that depends on the file alone: run k is task k of the job array.

    Raises:
        InputError: when the file is missing or not as described above, or two runs would have the same name.
    """
    path = Path(path)
    sweep = _read_yaml(path)
    axes = {str(axis): _choices(path, str(axis), values) for axis, values in sweep["vary"].items()}
    runs = []
    for combination in itertools.product(*(choices.items() for choices in axes.values())):
        labels = dict(zip(axes, (label for label, _ in combination), strict=True))
        options = {"recipe": sweep["recipe"], "config": sweep.get("config"), **(sweep.get("options") or {})}
        for _, chosen in combination:
            options |= chosen
        recipe, config = options.pop("recipe"), options.pop("config")
        name = f"{path.stem}/" + "-".join(re.sub(r"[^\w.+=]+", "_", label) for label in labels.values())
        arguments = [f"{option}={_argument(path, value, labels)}" for option, value in options.items()]
        command = [recipe, *([config] if config else []), *arguments, f"name={name}"]
        runs.append(SweepRun(name, labels, command))
    names = [run.name for run in runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"{path}: two runs would be named {min(twice)}: choose labels that differ in letters or digits"
        )
    return runs


def sweep_table(runs: list[SweepRun]) -> list[dict[str, str | float]]:
    """One row a run, finished or not: name, labels, state, steps, validation losses, and the scores' means."""
    return [
        {"name": run.name, **run.labels, "state": _state(run), **_losses(run.folder), **_scores(run.folder)}
        for run in runs
    ]


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"the sweep {path} does not exist")
    try:
        sweep = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # the YAML parser's own exceptions are many
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(sweep, dict) or not sweep.get("recipe") or not isinstance(sweep.get("vary"), dict):
        raise InputError(f"{path} must name a `recipe` and what to `vary` (see sempre/training/chains/sweep.py)")
    if unknown := set(map(str, sweep)) - KEYS:
        raise InputError(f"{path}: '{min(unknown)}' is unknown: a sweep has {', '.join(sorted(KEYS))}")
    return sweep


def _choices(path: Path, axis: str, values: list | dict) -> dict[str, dict]:
    """Label -> options, for one thing that is varied."""
    if isinstance(values, list) and values:
        return {str(value): {axis: value} for value in values}
    if isinstance(values, dict) and values and all(isinstance(options, dict) for options in values.values()):
        return {str(label): options for label, options in values.items()}
    raise InputError(f"{path}: vary.{axis} must be a list of values, or labels each with its options")


def _argument(path: Path, value: object, labels: dict[str, str]) -> str:
    """A value as the command line takes it, with the labels put in."""
    if isinstance(value, str):
        try:
            return Template(value).substitute(labels)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: '{value}' names a label that is not varied: {error}") from error
    return json.dumps(value)


def _state(run: SweepRun) -> str:
    if run.finished:
        return "finished"
    return "unfinished" if run.folder.exists() else "not started"


def _losses(folder: Path) -> dict[str, float]:
    from sempre.training.runs.logging import (
        read_log,  # brings torch, which a task that asks for its command need not await
    )

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
    return isinstance(score, dict) and "mean" in score
