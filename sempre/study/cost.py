"""What a plan costs: seconds, GPU-hours and disk of each cell, from seconds a step that were measured or stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sempre.study.design import Cell, StudyOptions
from sempre.training.stages import seconds_a_step

# Of ConvNeXtV2 (Woo et al., 2023): millions of parameters without the classifier, billions of multiply-adds at 224 px.
PARAMETERS = {
    "atto": 3.4, "femto": 4.8, "pico": 8.6, "nano": 15.0, "tiny": 27.9, "base": 87.7, "large": 196.4, "huge": 657.5,
}  # fmt: skip
COMPUTE = {
    "atto": 0.55, "femto": 0.78, "pico": 1.37, "nano": 2.45, "tiny": 4.47, "base": 15.4, "large": 34.4, "huge": 115.0,
}  # fmt: skip
HEADS = {"fcmae": 1.0, "densecl": 8.0, "mask_rcnn": 18.0, "dense": 6.0}  # further millions, about
STARTING = 20.0  # seconds to start a process, to score and to write
BYTES = 4
CHECKPOINTS, MOMENTS = 2, 3  # kept at a time; weights and AdamW's two moments


@dataclass(frozen=True)
class Cost:
    """Of one cell; `measured` where a finished cell of this study told the seconds a step."""

    seconds: float
    disk_bytes: float
    measured: bool


def cell_cost(cell: Cell, options: StudyOptions, measured: dict[tuple[str, str], float]) -> Cost | None:
    """None where the seconds a step are neither measured nor stated."""
    parameters = 1e6 * (PARAMETERS[cell.size] + HEADS[cell.recipe])
    networks = 2 if cell.recipe == "densecl" else 1  # it has a key encoder
    disk = parameters * BYTES * (CHECKPOINTS * (MOMENTS + networks - 1) + 1)
    own = measured.get((cell.recipe, cell.size))
    if own is None and cell.recipe not in options.seconds_a_step:
        return None
    scaled = options.seconds_a_step.get(cell.recipe, 0) * COMPUTE[cell.size] / COMPUTE["atto"]
    return Cost(STARTING + cell.steps * (scaled if own is None else own), disk, own is not None)


def measured_seconds(folder: Path, cells: Sequence[Cell]) -> dict[tuple[str, str], float]:
    """Seconds a step by recipe and size, of the first cell of each whose log says them."""
    found: dict[tuple[str, str], float] = {}
    for cell in cells:
        run = folder / cell.name / ("repeat-0" if cell.stage == "finetune" else "")
        if (cell.recipe, cell.size) not in found and (run / "log.jsonl").exists():
            try:
                found[cell.recipe, cell.size] = seconds_a_step(run)
            except (IndexError, ZeroDivisionError):  # a log of one line
                continue
    return found


def _hours(hours: float, costs: Sequence[Cost | None]) -> str:
    """Of the costs that are known; "unknown" where none is."""
    if costs and not any(costs):
        return "unknown"
    if hours < 0.05:
        return "less than 0.1"
    return f"{'more than ' if None in costs else ''}{hours:.1f}"


def plan_summary(cells: Sequence[Cell], options: StudyOptions, folder: Path, parallel: int) -> list[str]:
    """Lines that say what the plan will take, by stage and in all."""
    measured = measured_seconds(folder, cells)
    lines, total, disk, unknown = [], 0.0, 0.0, 0
    all_costs: list[Cost | None] = []
    for stage in ("pretrain", "finetune"):
        own = [cell for cell in cells if cell.stage == stage]
        costs = [cell_cost(cell, options, measured) for cell in own]
        hours = sum(cost.seconds for cost in costs if cost) / 3600
        unknown += sum(cost is None for cost in costs)
        lines.append(f"{stage}: {len(own)} cells, {_hours(hours, costs)} hours of one GPU or process")
        all_costs += costs
        total += hours
        disk += sum(cost.disk_bytes for cost in costs if cost)
    origin = f"stated, of {options.measured_on}" if options.measured_on else "stated"
    told = f"measured here for {len(measured)} of the recipes and sizes, else {origin}" if measured else origin
    if total:
        shared = f"{total / parallel:.1f} with {parallel} at a time"
        lines.append(f"in all {_hours(total, all_costs)} hours ({shared}), {disk / 1e9:.1f} GB")
    else:
        lines.append("in all unknown hours: give the seconds of a step, as in seconds_a_step={fcmae: 0.5, dense: 0.2}")
    lines.append(f"seconds a step are {told}; networks other than Atto are scaled by their multiply-adds")
    if unknown:
        lines.append(f"{unknown} cells are not counted: seconds_a_step says nothing of their recipe")
    return lines
