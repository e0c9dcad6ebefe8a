"""Compare frozen backbones by their nearest neighbours: is a checkpoint any good, before labels are spent on it?

    python evaluate/knn.py data=my_set backbones=[runs/fcmae/backbone,random:convnextv2_pico,intensity]
    python evaluate/knn.py images=store.h5 backbones=[runs/dino/backbone,dinov2_vits14_pretrain.pth] size=448

With `data`, labelled micrographs, a backbone should find cells of particles for cells of particles in other
micrographs; with `images`, a store or a folder that has labels, images of the same label. `runs/<name>/` holds the
table as report.html, table.csv and summary.json, beside it AJI+ of fine-tuned runs that began from these backbones.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from sempre.config import read_options, save_options
from sempre.frozen.clusters import silhouette
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.tasks import Task, TaskOptions, balanced_accuracy, nearest, retrieval_accuracy, score_backbones, vote
from sempre.pretraining.collapse import rank_me
from sempre.processes import run_in_one_process
from sempre.ranges import Count, RunName
from sempre.report.backbone_table import write_backbone_table

ABOUT = (
    "Retrieval is the mean share of the nearest neighbours that have the query's label; accuracy the share of the "
    "queries whose label most of them have. Classes weigh the same: guessing gives 1 over their number. The "
    "silhouette of the labels is from -1 to 1. RankMe is the effective number of dimensions. Neighbours are from other "
    "images."
)


@dataclass(kw_only=True)
class Options(TaskOptions):
    name: RunName = "knn"  # the result goes to runs/<name>
    k: Count = 10  # number of neighbours


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check_extraction(options)
    folder = Path("runs") / options.name
    rows, read_out = score_backbones(options, lambda task: score(task, options))
    write_backbone_table(folder, "sempre: nearest neighbours", ABOUT, rows, read_out)
    save_options(options, folder / "config.yaml")
    print(f"{folder / 'report.html'}")
    return 0


def score(task: Task, options: Options) -> dict[str, float]:
    found = task.bank_labels[nearest(task.bank, task.queries, options.k)]
    return {
        f"retrieval of {options.k}": retrieval_accuracy(found, task.query_labels),
        "accuracy": balanced_accuracy(vote(found), task.query_labels),
        "silhouette": silhouette(task.queries, task.query_labels, options.seed),
        "RankMe": rank_me(torch.from_numpy(task.queries)),
    }


if __name__ == "__main__":
    run_in_one_process(main)
