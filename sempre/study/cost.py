"""What a plan costs: seconds, GPU-hours and disk of each cell, from seconds a step that were measured or stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from sempre.errors import InputError
from sempre.study.design import Cell, StudyOptions, of_table, processes, read_settings
from sempre.training.cost_model import GRADIENT_BYTES, state_bytes
from sempre.training.recipe_chain import seconds_a_step

# Of ConvNeXtV2 (Woo et al., 2023): millions of parameters without the classifier, billions of multiply-adds at 224 px.
PARAMETERS = {
    "atto": 3.4, "femto": 4.8, "pico": 8.6, "nano": 15.0, "tiny": 27.9, "base": 87.7, "large": 196.4, "huge": 657.5,
}  # fmt: skip
COMPUTE = {
    "atto": 0.55, "femto": 0.78, "pico": 1.37, "nano": 2.45, "tiny": 4.47, "base": 15.4, "large": 34.4, "huge": 115.0,
}  # fmt: skip
# Channels of the first stage, twice as many in each further one, and blocks of the stages.
WIDTHS = {
    "atto": 40, "femto": 48, "pico": 64, "nano": 80, "tiny": 96, "base": 128, "large": 192, "huge": 352,
}  # fmt: skip
BLOCKS = dict.fromkeys(("atto", "femto", "pico"), (2, 2, 6, 2)) | {"nano": (2, 2, 8, 2), "tiny": (3, 3, 9, 3)}
BLOCKS |= dict.fromkeys(("base", "large", "huge"), (3, 3, 27, 3))
# What a block keeps for the backward pass: its input, the convolution's output and the normalised one, and three
# layers of four times the width; in bf16, the response normalisation in float32: 16 values of 3 bytes on average.
KEPT_BYTES = 16 * 3
# Times the activations of one dense crop: half of the cells and a narrow decoder; two views; pyramid and heads.
ACTIVATIONS = {"fcmae": 0.6, "densecl": 2.2, "mask_rcnn": 1.8, "dense": 1.8}
CROPS = {"fcmae": 640, "densecl": 640, "mask_rcnn": 512, "dense": 512}  # px, where the settings do not say it
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


def cell_memory(cell: Cell, options: StudyOptions) -> float:
    """Bytes that a GPU of a cell's job needs, by the model above: weights, gradients twice (DDP's buckets), AdamW's
    moments, and the activations of what it computes at a time. An estimate, not measured on GPUs."""
    parameters = int(1e6 * (PARAMETERS[cell.size] + HEADS[cell.recipe]))
    gpus = processes(options, cell.recipe, cell.size)
    share = ceil(cell.batch / gpus)
    at_a_time = ceil(share / of_table(options.accumulation, cell.recipe, cell.size, 1))
    crop = read_settings(cell.recipe, getattr(options, cell.recipe)).values.get("crop", CROPS[cell.recipe])
    values = sum(
        blocks * WIDTHS[cell.size] * 2**stage * (crop / (4 * 2**stage)) ** 2
        for stage, blocks in enumerate(BLOCKS[cell.size])
    )
    state = state_bytes(parameters) + GRADIENT_BYTES * parameters * (2 if cell.recipe == "densecl" else 1)
    return state + at_a_time * values * KEPT_BYTES * ACTIVATIONS[cell.recipe]


def memory_lines(cells: Sequence[Cell], options: StudyOptions) -> list[str]:
    """A line a recipe: the memory of a GPU by size.

    Raises:
        InputError: for a plan that does not fit into `gpu_gigabytes`.
    """
    needed: dict[str, dict[str, float]] = {}
    for cell in cells:
        needed.setdefault(cell.recipe, {})[cell.size] = cell_memory(cell, options) / 1e9
    for recipe, by_size in needed.items():
        for size, gigabytes in by_size.items():
            if 0 < options.gpu_gigabytes < gigabytes:
                raise InputError(
                    f"{recipe} of {size} would need about {gigabytes:.0f} GB a GPU, and gpu_gigabytes is "
                    f"{options.gpu_gigabytes:g}: give more nodes= or accumulation= for {recipe}-{size}"
                )
    return [
        f"{recipe}: about {', '.join(f'{gigabytes:.1f} ({size})' for size, gigabytes in by_size.items())} GB a GPU"
        for recipe, by_size in needed.items()
    ]


def curve_lines(cells: Sequence[Cell], options: StudyOptions) -> list[str]:
    """What the pretrainings on fewer images cost beside one on all, and which numbers are left out."""
    fewer = [cell for cell in cells if cell.stage == "pretrain" and cell.images]
    lines = []
    if fewer:
        whole = next(cell for cell in cells if (cell.recipe, cell.size, cell.images) == ("fcmae", fewer[0].size, 0))
        times = sum(cell.steps for cell in fewer) / whole.steps
        other = "equal=epochs, as in the article, takes less" if options.equal == "steps" else "each with equal epochs"
        lines.append(f"FCMAE on fewer images takes {times:.1f} times the pretraining on all ({other})")
    least = processes(options, "fcmae", options.detail_size or options.sizes[0])
    if least > 1 and options.image_exponents and "fcmae" in options.arms:
        lines.append(f"numbers of images below {least} are left out: each of so many processes needs one")
    return lines


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
