"""The page of a U-Net that refines heat maps: masks before and after, scored on the same held-out micrographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sempre.data.labelled import LabelledSet
from sempre.report.figures import SKY_BLUE, VERMILLION, YELLOW
from sempre.report.html import figure_rows, heading, paragraph, picture, table, write_page
from sempre.report.transfer_page import SCORES, draw_masks, spread_text

SCORES_TITLES = tuple(title for title, _ in SCORES.values())


@dataclass(frozen=True)
class RefinementExample:
    """A micrograph to show: `pixels` uint8 and masks bool, all `[H, W]`; `before` is None without a heat map."""

    title: str
    pixels: np.ndarray
    true: np.ndarray
    before: np.ndarray | None
    after: np.ndarray


def write_refinement_report(path: Path, summary: Mapping, examples: Sequence[RefinementExample]) -> None:
    """Write the page that shows what `finetune/unet.py` measured and put into its `summary.json`."""
    heat_map = f" and heat maps of {summary['backbone']}" if summary["heat_map"] else ""
    sides = {"heat map alone": summary["heat_map"], f"U-Net, {summary['input']}": summary["refined"]}
    rows = [(name, *_scores(of)) for name, of in sides.items() if of]
    by_group = [
        (group, name, *_scores(of[group]))
        for group in summary.get("groups", {})
        for name, of in zip(sides, (summary["heat_map_groups"], summary["groups"]), strict=True)
        if of[group]
    ]
    by_fold = [
        (name, str(len(fold["samples"])), *(_mean(fold[side], "dice") for side in ("heat_map", "samples")))
        for name, fold in summary["folds"].items()
    ]
    pictures = [picture(draw_example(example), example.title) for example in examples]
    parts = [
        paragraph(
            f"{summary['data']}: a U-Net on {summary['input']}{heat_map}, {summary['micrographs']} held-out "
            f"micrographs, trained {len(summary['repeats'])} times on each fold. Behind ±: the deviation over "
            "micrographs, then that over trainings."
        ),
        table(("mask of the", *SCORES_TITLES), rows),
        *([heading("Groups"), table(("group", "mask of the", *SCORES_TITLES), by_group)] if by_group else []),
        heading("Folds"),
        table(("held out", "micrographs", "Dice of the heat map", "Dice of the U-Net"), by_fold),
        heading("Examples"),
        paragraph("Labels red, the heat map's own mask yellow, the U-Net's blue; by the gain in Dice."),
        *figure_rows(pictures, 3),
    ]
    write_page(path, f"Refined: {Path(summary['data']).name}", parts)


def refinement_examples(labelled: LabelledSet, scores: Mapping, folders: Sequence[Path]) -> list[RefinementExample]:
    """Of each fold the micrographs that gain least, middling and most Dice by refinement.

    Args:
        scores: the folds' summaries by name; those without a heat map are ranked by Dice alone.
        folders: of the folds, with `predictions/` and `heat_map/`.
    """
    shown = []
    for folder, (name, fold) in zip(folders, scores.items(), strict=True):
        after, before = ({of: scored["dice"] for of, scored in fold[side].items()} for side in ("samples", "heat_map"))
        ranked = sorted(after, key=lambda micrograph: after[micrograph] - before.get(micrograph, 0.0))
        words = {0: "worst", len(ranked) - 1: "best"}
        for place in dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1)):
            micrograph = ranked[place]
            read = labelled.read(labelled.names.index(micrograph))
            change = f"{before[micrograph]:.3f} to {after[micrograph]:.3f}" if before else f"{after[micrograph]:.3f}"
            title = f"{name}, {words.get(place, 'median')}: {micrograph}, Dice {change}"
            own, refined = (folder / side / f"{micrograph}.png" for side in ("heat_map", "predictions"))
            alone = read_mask(own) if own.is_file() else None
            shown.append(RefinementExample(title, read.pixels, read.foreground, alone, read_mask(refined)))
    return shown


def read_mask(path: Path) -> np.ndarray:
    """A mask bool `[H, W]`."""
    return np.asarray(Image.open(path)) > 0


def draw_example(example: RefinementExample) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph with the outlines of its masks."""
    masks = [(example.true, VERMILLION), (example.before, YELLOW), (example.after, SKY_BLUE)]
    return draw_masks(example.pixels, [(mask, colour) for mask, colour in masks if mask is not None])


def _scores(of: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [spread_text(of[key], digits) for key, (_, digits) in SCORES.items()]


def _mean(samples: Mapping[str, Mapping[str, float]], score: str) -> str:
    return f"{np.mean([sample[score] for sample in samples.values()]):.3f}" if samples else "–"
