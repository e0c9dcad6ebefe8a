"""Compare frozen backbones by a linear probe: what can be read out of them by one layer?

    python evaluate/linear.py data=my_set backbones=[runs/fcmae/backbone,random:convnextv2_pico,intensity]
    python evaluate/linear.py images=store.h5 backbones=[runs/dino/backbone,dinov2_vits14_pretrain.pth] size=448

With `data`, labelled micrographs, logistic regression tells cells of particles from background; with `images`, a store
or a folder that has labels, it tells the images' labels. It is trained on one split and asked about the
other. `runs/<name>/` holds the table as report.html, table.csv and summary.json.
"""

from dataclasses import dataclass
from pathlib import Path

from sempre.config import read_options, save_options
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.tasks import Task, TaskOptions, balanced_accuracy, linear_probe, score_backbones
from sempre.processes import run_in_one_process
from sempre.ranges import RunName
from sempre.report.backbone_table import write_backbone_table

ABOUT = (
    "Share of the labels that logistic regression on the standardised embeddings tells right, on images that it was "
    "not trained on (accuracy) and on those it was (training). Classes weigh the same: guessing gives 1 over their "
    "number."
)


@dataclass(kw_only=True)
class Options(TaskOptions):
    name: RunName = "linear"  # the result goes to runs/<name>


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check_extraction(options)
    folder = Path("runs") / options.name
    rows, read_out = score_backbones(options, lambda task: score(task, options.seed))
    write_backbone_table(folder, "sempre: linear probes", ABOUT, rows, read_out)
    save_options(options, folder / "config.yaml")
    print(f"{folder / 'report.html'}")
    return 0


def score(task: Task, seed: int) -> dict[str, float]:
    probe = linear_probe(seed).fit(task.bank, task.bank_labels)
    return {
        "accuracy": balanced_accuracy(probe.predict(task.queries), task.query_labels),
        "training": balanced_accuracy(probe.predict(task.bank), task.bank_labels),
    }


if __name__ == "__main__":
    run_in_one_process(main)
