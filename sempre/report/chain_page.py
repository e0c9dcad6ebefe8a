"""The reports of a chain of recipes and of a comparison of frozen backbones."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import sempre
from sempre.data.labelled import LabelledSet
from sempre.files import code_commit, write_json
from sempre.images import read_labels
from sempre.report.cluster_page import draw_mask, rows_of_pictures
from sempre.report.comparison_page import Arm, error_reductions, overlay_parts, read_arms, score_parts
from sempre.report.figures import arm_styles, loss_curves
from sempre.report.html import figure_row, heading, linked, paragraph, picture, table, write_page
from sempre.training.recipe_chain import folder_name
from sempre.training.run_folder import read_log


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
        "commit": code_commit(),
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


SHOWN = 4  # held-out micrographs
CELL = 16  # px that the cells of a backbone have at the most
COLUMNS = {
    "knn": "kNN accuracy",
    "linear": "linear probe",
    "rank_me": "RankMe",
    "dice": "prototypes: Dice",
    "iou": "IoU",
    "hd95_px": "HD95 (px)",
    "aji_plus": "AJI+",
    "clusters_iou": "clusters: IoU",
}


def write_evaluation_report(
    folder: Path, data: Path, backbones: Mapping[str, str], classical: Path, seconds: Mapping[str, float]
) -> dict:
    """Write `folder/report.html` and `folder/summary.json`, and return what the latter holds.

    Args:
        folder: holds the runs of evaluate/: `knn`, `linear`, `clusters`, `discovery` and `prototypes/<title>`.
        data: the labelled set.
        backbones: title of each, and the name that the recipes were given; the title's run is named as `folder_name`.
        classical: the run of evaluate/watershed.py.
        seconds: of each stage.
    """
    rows = {title: figures(folder, title, name) for title, name in backbones.items()}
    reference = read_summary(classical)["scores"]["aji_plus"]["mean"]
    grey = read_summary(folder / "clusters")["arms"]["grey value"]["iou"]
    summary = {
        "backbones": rows,
        "otsu_watershed_aji_plus": reference,
        "grey_value_clusters_iou": grey,
        "seconds": {**seconds, "total": sum(seconds.values())},
        "data": str(data),
        "machine": machine(),
    }
    write_json(folder / "summary.json", summary)
    prototypes = read_summary(folder / "prototypes" / folder_name(next(iter(backbones))))
    cells = [
        [title, row["read_out"], *(f"{row[column]:.{1 if column == 'hd95_px' else 3}f}" for column in COLUMNS)]
        for title, row in rows.items()
    ]
    parts = [
        paragraph(
            f"{data}: {prototypes['validation']} held-out micrographs, {prototypes['train']} others to learn from; the "
            f"backbones stay frozen. {summary['machine']}."
        ),
        heading("Backbones"),
        table(("backbone", "read out", *COLUMNS.values()), cells),
        paragraph(
            f"Each backbone is read out at its deepest layer of cells of at most {CELL} px, or at the one behind its @."
        ),
        paragraph(
            "kNN and linear probe: share of cells told right as particle or background, 0.5 by guessing. "
            f"Prototypes: masks from {prototypes['points_used']} points of each sort ({prototypes['threshold']}), and "
            "AJI+ of the instances that a watershed makes of them. Clusters: two in each micrograph, no labels."
        ),
        paragraph(
            f"For comparison: Otsu's threshold and a watershed give AJI+ {reference:.3f}, clusters of grey values IoU "
            f"{grey:.3f}."
        ),
        linked(
            {
                "nearest neighbours": "knn/report.html",
                "linear probes": "linear/report.html",
                "clusters": "clusters/report.html",
                **{f"prototypes: {title}": f"prototypes/{folder_name(title)}/report.html" for title in backbones},
                "what is in the pile": "discovery/report.html",
            }
        ),
        heading("Held-out micrographs, by prototypes"),
        paragraph("Green: right; orange: no particle; blue: missed."),
        *overlays(folder, LabelledSet(data, components=None), backbones),
        heading("Time"),
        table(("stage", "seconds"), [(stage, f"{value:.1f}") for stage, value in summary["seconds"].items()]),
    ]
    write_page(folder / "report.html", f"sempre: {data.name}, frozen backbones", parts)
    return summary


def figures(folder: Path, title: str, name: str) -> dict:
    """What the recipes measured of one backbone, by the names of `COLUMNS`, and where it was `read_out`."""
    read_out = read_summary(folder / "knn")["read_out"][name]
    knn, linear = (read_summary(folder / recipe)["backbones"][name] for recipe in ("knn", "linear"))
    run = folder / "prototypes" / folder_name(title)
    prototypes = read_summary(run)
    return {
        "read_out": read_out,
        "knn": knn["cells: accuracy"],
        "linear": linear["cells: accuracy"],
        "rank_me": knn["cells: RankMe"],
        **prototypes["masks"][prototypes["threshold"]],
        "aji_plus": prototypes["scores"]["aji_plus"]["mean"],
        "clusters_iou": read_summary(folder / "clusters")["arms"][name]["iou"],
    }


def overlays(folder: Path, labelled: LabelledSet, backbones: Mapping[str, str]) -> list[str]:
    """Rows of what each backbone finds, in micrographs spread evenly over the last backbone's AJI+."""
    runs = {title: folder / "prototypes" / folder_name(title) / "repeat-0" for title in backbones}
    samples = {title: read_summary(run)["samples"] for title, run in runs.items()}
    ranked = sorted(samples[list(runs)[-1]].items(), key=lambda item: -item[1]["aji_plus"])
    rows = []
    for position in np.unique(np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked))).round().astype(int)):
        name = ranked[position][0]
        micrograph = labelled.read(labelled.names.index(name))
        drawn = []
        for title, run in runs.items():
            found = read_labels(run / "predictions" / f"{name}.tif") > 0
            caption = f"{name}, {title}: AJI+ {samples[title][name]['aji_plus']:.2f}"
            drawn.append((draw_mask(micrograph.pixels, micrograph.foreground, found), caption))
        rows += rows_of_pictures(drawn)
    return rows


def read_summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))
