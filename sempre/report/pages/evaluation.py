"""The page that compares frozen backbones by all that evaluate/ measures of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sempre.data.labels.labelled import LabelledSet
from sempre.files import write_json
from sempre.images import read_labels
from sempre.report.html import heading, linked, paragraph, table, write_page
from sempre.report.pages.chain import machine
from sempre.report.pages.clusters import draw_mask, rows_of_pictures
from sempre.training.chains.stages import folder_name

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
