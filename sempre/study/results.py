"""What the cells of a study have come to: each with its state, the scores of every micrograph, and the table of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.files import read_json
from sempre.metrics import by_group, summarise
from sempre.study.cells import cell_state
from sempre.study.plan import Cell

SHOWN = ("aji_plus", "correct", "missed", "false_positives")


@dataclass(frozen=True)
class Result:
    """`samples` are the scores of each micrograph (`sempre.metrics.score_sample`), none of a cell without scores."""

    cell: Cell
    state: str  # finished, failed or not run
    reason: str
    samples: Mapping[str, Mapping]

    def aji_plus(self, names: Sequence[str]) -> float:
        return float(np.mean([self.samples[name]["aji_plus"] for name in names]))


def read_results(folder: Path, cells: Sequence[Cell]) -> list[Result]:
    """A result for every cell, missing ones too: they say why."""
    states = {cell.name: cell_state(folder, cell) for cell in cells}
    results = []
    for cell in cells:
        state, reason = states[cell.name]
        if state == "not run" and cell.needs and states.get(cell.needs, ("",))[0] == "failed":
            reason = f"{cell.needs} failed"
        samples = {}
        if state == "finished" and cell.stage == "finetune":
            try:
                samples = read_samples(folder / cell.name)
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                state, reason = "failed", f"its summary.json cannot be read: {error!r}"
        results.append(Result(cell, state, reason, samples))
    return results


def read_samples(run: Path) -> dict[str, dict]:
    """The scores of each micrograph in the first repeat of a run's `summary.json`."""
    return read_json(run / "summary.json")["repeats"][0]["samples"]


def result_rows(results: Sequence[Result], groups: Mapping[str, str]) -> list[dict]:
    """One row a cell: its labels, its state, and AJI+ and counts over all micrographs and over each group."""
    rows = []
    for result in results:
        cell = result.cell
        row = {
            "cell": cell.name,
            "recipe": cell.recipe,
            "size": cell.size,
            "arm": cell.arm,
            "images": cell.images or "all",
            "labels": cell.labels or "all",
            "seed": cell.seed,
            "state": result.state,
            "reason": result.reason,
        }
        if result.samples:
            row |= {name: summarise(result.samples)[name] for name in SHOWN}
            if groups:
                for group, members in by_group(result.samples, groups).items():
                    row |= {f"{name} {group}": summarise(members)[name] for name in SHOWN}
        rows.append(row)
    return rows


def repeats_of(results: Sequence[Result], **labels: object) -> list[Result]:
    """The scored repeats of one combination: of all images and labels where `labels` say no others."""
    wanted = {"images": 0, "labels": 0, **labels}
    return [
        result
        for result in results
        if result.samples and all(getattr(result.cell, name) == value for name, value in wanted.items())
    ]


def mean_of_micrographs(repeats: Sequence[Result], score: str = "aji_plus") -> dict[str, float]:
    """The mean over repeats of each micrograph's score."""
    names = sorted({name for repeat in repeats for name in repeat.samples})
    return {name: float(np.mean([repeat.samples[name][score] for repeat in repeats])) for name in names}


def group_members(results: Sequence[Result], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """The scored micrographs of each group; all of them as one, `all micrographs`, where there are no groups."""
    names = sorted({name for result in results for name in result.samples})
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups.get(name, "all micrographs"), []).append(name)
    return dict(sorted(members.items()))
