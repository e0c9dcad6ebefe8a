"""What the runs of a sweep have come to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from sempre.metrics import error_reduction_rate
from sempre.training.chains.sweep import SweepRun
from sempre.training.runs.logging import read_log

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
