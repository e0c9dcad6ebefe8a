"""The report of a whole chain: `report.html` for people, `summary.json` with the same numbers for programs."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import sempre
from sempre.data.labelled import LabelledSet
from sempre.deploy.overlay import draw_overlay
from sempre.files import write_json
from sempre.images import read_labels
from sempre.metrics import compare_arms
from sempre.report.curves import loss_curves
from sempre.report.html import figure_row, heading, paragraph, picture, table, write_page
from sempre.training.logging import read_log

OVERLAYS = 6  # held-out micrographs shown


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
    summaries = {name: arm_summary(folder / run) for name, run in arms.items()}
    validation_losses = [line for line in read_log(folder / "pretraining/log.jsonl") if line["kind"] == "validation"]
    summary = {
        "arms": summaries,
        "error_reduction_rate": compare_arms({name: arm["aji_plus"]["mean"] for name, arm in summaries.items()}),
        "pretraining_validation_loss": min((line["loss"] for line in validation_losses), default=None),
        "seconds": {**seconds, "total": sum(seconds.values())},
        "data": str(labelled_folder),
        "machine": machine(),
        "versions": {"sempre": sempre.__version__, "torch": torch.__version__},
    }
    write_json(folder / "summary.json", summary)
    labelled = LabelledSet(labelled_folder)
    held_out = next(iter(summaries.values()))["samples"]
    parts = [
        paragraph(
            f"{labelled_folder}: {len(labelled)} labelled micrographs, of which {held_out} are held out and scored. "
            f"{summary['machine']}; sempre {sempre.__version__}, torch {torch.__version__}."
        ),
        heading("Arms"),
        paragraph(
            "The fine-tuned arms differ in the backbone's initial weights alone. AJI+ is the mean over the held-out "
            "micrographs (± standard deviation over repeats); instances are counted as found at IoU 0.4; "
            "ERR is the share of a baseline's error, 1 - AJI+, that an arm removes."
        ),
        arms_table(summary),
        heading("Pretraining"),
        figure_row(
            [
                picture(loss_curves({"FCMAE": folder / "pretraining/log.jsonl"}, "pretraining"), "masked patches' MSE"),
                picture(loss_curves(fine_tuning_logs(folder, arms), "fine-tuning"), "sum of the detector's losses"),
            ]
        ),
        picture(
            folder / "pretraining/figures/reconstructions.png",
            "Held-out crops: original, what the encoder saw, what was painted",
        ),
        heading("Held-out micrographs"),
        *overlays(folder, labelled, arms, summaries),
        heading("Time"),
        table(("stage", "seconds"), [(stage, f"{value:.1f}") for stage, value in summary["seconds"].items()]),
    ]
    write_page(folder / "report.html", f"sempre: {labelled_folder.name}", parts)
    return summary


def arm_summary(run: Path) -> dict:
    """Mean and deviation of each score over a run's repeats, and the AJI+ of each micrograph in its first."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    first = summary["repeats"][0]
    samples = {name: sample["aji_plus"] for name, sample in first["samples"].items()}
    return {**summary["scores"], "samples": first["summary"]["samples"], "samples_aji_plus": samples}


def arms_table(summary: dict) -> str:
    arms = summary["arms"]
    header = (
        "arm",
        "AJI+",
        "AJI",
        "PQ",
        "mask AP",
        "found",
        "missed",
        "false",
        *(f"ERR against {arm}" for arm in arms),
    )
    rows = []
    for name, arm in arms.items():
        reductions = summary["error_reduction_rate"][name]
        average_precision = f"{arm['ap']['mean']:.3f}" if "ap" in arm else ""
        rows.append(
            (
                name,
                f"{arm['aji_plus']['mean']:.3f} ± {arm['aji_plus']['std']:.3f}",
                f"{arm['aji']['mean']:.3f}",
                f"{arm['panoptic_quality']['mean']:.3f}",
                average_precision,
                *(f"{arm[count]['mean']:.0f}" for count in ("correct", "missed", "false_positives")),
                *(f"{reductions[other]:+.1f} %" if other != name else "" for other in arms),
            )
        )
    return table(header, rows)


def fine_tuning_logs(folder: Path, arms: Mapping[str, str]) -> dict[str, Path]:
    logs = {name: folder / run / "repeat-0/log.jsonl" for name, run in arms.items()}
    return {name: log for name, log in logs.items() if log.exists()}


def overlays(folder: Path, labelled: LabelledSet, arms: Mapping[str, str], summaries: Mapping[str, dict]) -> list[str]:
    """Rows of truth and each arm's prediction, for micrographs spread evenly over the last arm's AJI+."""
    scores = {name: arm["samples_aji_plus"] for name, arm in summaries.items()}
    ranked = sorted(scores[list(arms)[-1]].items(), key=lambda item: -item[1])
    chosen = np.unique(np.linspace(0, len(ranked) - 1, min(OVERLAYS, len(ranked))).round().astype(int))
    rows = []
    for name in (ranked[position][0] for position in chosen):
        micrograph = labelled.read(labelled.names.index(name))
        pictures = [picture(draw_overlay(micrograph.pixels, micrograph.layers.max(axis=0)), f"{name}: labels")]
        for arm, run in arms.items():
            labels = read_labels(folder / run / "repeat-0/predictions" / f"{name}.tif")
            caption = f"{arm}: AJI+ {scores[arm][name]:.2f}"
            pictures.append(picture(draw_overlay(micrograph.pixels, labels), caption))
        rows.append(figure_row(pictures))
    return rows


def machine() -> str:
    """What was measured on."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, {accelerator}"
