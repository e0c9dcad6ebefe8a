"""The report of a whole chain: `report.html` for people, `summary.json` with the same numbers for programs."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

import sempre
from sempre.data.labels.labelled import LabelledSet
from sempre.files import write_json
from sempre.report.arms import Arm, error_reductions, read_arms
from sempre.report.figures.curves import loss_curves
from sempre.report.html import figure_row, heading, paragraph, picture, table, write_page
from sempre.report.pages.comparison import overlay_parts, score_parts
from sempre.report.palette import arm_styles
from sempre.training.runs.logging import read_log


def write_chain_report(
    folder: Path, labelled_folder: Path, arms: Mapping[str, str], seconds: Mapping[str, float]
) -> dict:
    """Write `folder/report.html` and `folder/summary.json`, and return what the latter holds.

    Args:
        folder: holds `pretraining/` and each arm's run.
        labelled_folder: the labelled set that the arms were scored on.
        arms: name of each arm, and its run's folder within `folder`.
        seconds: of each stage.
    """
    labelled = LabelledSet(labelled_folder)
    compared = read_arms({name: folder / run for name, run in arms.items()}, labelled)
    validation_losses = [line for line in read_log(folder / "pretraining/log.jsonl") if line["kind"] == "validation"]
    summary = {
        "arms": {arm.name: arm_summary(arm) for arm in compared},
        "error_reduction_rate": error_reductions(compared),
        "pretraining_validation_loss": min((line["loss"] for line in validation_losses), default=None),
        "seconds": {**seconds, "total": sum(seconds.values())},
        "data": str(labelled_folder),
        "machine": machine(),
        "versions": {"sempre": sempre.__version__, "torch": torch.__version__},
    }
    write_json(folder / "summary.json", summary)
    held_out = len(compared[0].aji_plus)
    fine_tuned = fine_tuning_logs(folder, arms)
    colours = {name: style["color"] for name, style in arm_styles(arms).items()}
    parts = [
        paragraph(
            f"{labelled_folder}: {len(labelled)} labelled micrographs, of which {held_out} are held out and scored. "
            f"{summary['machine']}; sempre {sempre.__version__}, torch {torch.__version__}."
        ),
        paragraph("The fine-tuned arms differ in the backbone's initial weights alone."),
        *score_parts(compared),
        heading("Pretraining"),
        figure_row(
            [
                picture(loss_curves({"SparK": folder / "pretraining/log.jsonl"}, "pretraining"), "masked patches' MSE"),
                picture(loss_curves(fine_tuned, "fine-tuning", colours), "sum of the losses"),
            ]
        ),
        picture(
            folder / "pretraining/figures/reconstructions.png",
            "Held-out crops: original, what the encoder saw, what was painted",
        ),
        *overlay_parts(compared, labelled),
        heading("Time"),
        table(("stage", "seconds"), [(stage, f"{value:.1f}") for stage, value in summary["seconds"].items()]),
    ]
    write_page(folder / "report.html", f"sempre: {labelled_folder.name}", parts)
    return summary


def arm_summary(arm: Arm) -> dict:
    """Mean and deviation of each score over an arm's repeats; of each micrograph and size the means."""
    details = {"samples": len(arm.aji_plus), "samples_aji_plus": arm.aji_plus, "size_bins": arm.size_bins}
    return {**arm.scores, **details}


def fine_tuning_logs(folder: Path, arms: Mapping[str, str]) -> dict[str, Path]:
    logs = {name: folder / run / "repeat-0/log.jsonl" for name, run in arms.items()}
    return {name: log for name, log in logs.items() if log.exists()}


def machine() -> str:
    """What was measured on."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, {accelerator}"
