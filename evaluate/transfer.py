"""How far the prototypes of a few points carry: on their own micrograph, in the same sample, and across samples.

    python evaluate/transfer.py data=my_set backbones=[runs/fcmae/backbone,intensity] layer=-2 name=transfer
    python evaluate/transfer.py configs/papers/prototypes.yaml data=ims backbones=[dinov2_vits14_pretrain.pth,…]

Nothing is trained, so nothing is held out. Each micrograph is segmented by points of its own; by those of one reference
micrograph of its sample; and by those of one of each other sample. Dice, IoU and HD95 have deviations over micrographs
and over the draws of points and references. `runs/<name>/report.html` shows the backbones side by side, by sample, from
sample to sample, by the number of points and by the share that is taken, and the worst, the median and the best
micrograph of each sample with its points; `summary.json` and `scores.csv` hold the figures. With `groups` the
micrographs that are segmented are scored by group too.

Samples are told from names (`sample_pattern`); the slices of a volume, with `slices`, are one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import MISSING

from sempre.config import read_options, save_options
from sempre.data.groups import read_groups
from sempre.data.splits import by_sample
from sempre.data.volume_slices import SliceOptions, open_labelled
from sempre.errors import InputError
from sempre.files import write_csv, write_json
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.extract import extract, file_percentiles
from sempre.frozen.pooling import MapMethod
from sempre.frozen.prototype_study import (
    KINDS,
    Micrographs,
    PrototypeOptions,
    own_model,
    protocol_rows,
    protocol_summary,
    scorable,
    sweeps,
)
from sempre.frozen.prototypes import Clicks
from sempre.frozen.separability import Tokens, separability, token_planes
from sempre.frozen.tasks import labelled_source
from sempre.processes import run_in_one_process
from sempre.ranges import Count, RunName, Several
from sempre.report.transfer_page import TransferExample, spread_text, write_transfer_report


@dataclass(kw_only=True)
class Options(PrototypeOptions, SliceOptions):
    data: str = "???"  # folder of labelled micrographs, or of labelled volumes with slices=N
    backbones: Several = MISSING  # backbone/ folders, .pth files, names as in knn.py
    name: RunName = "transfer"  # the result goes to runs/<name>
    groups: str = ""  # also score groups: magnification, folder, or a CSV file of rows name,group
    k: Count = 10  # number of neighbours of a cell that are compared with it
    map: MapMethod = "auto"  # second map of the cells, beside PCA; auto: umap if installed
    sweep: bool = True  # also score other numbers of points and other shares


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check(options)
    folder = Path("runs") / options.name
    percentiles = file_percentiles(options, None)
    labelled = open_labelled(options.data, folder / "slices", options, percentiles, options.plain_percentiles)
    groups = read_groups(options.groups, labelled.paths)
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")

    results, rows, pages = {}, [], {}
    samples: dict[str, list[int]] = {}
    for backbone in options.backbones:
        encoder = open_encoder(backbone, layer=options.layer, seed=options.seed)
        everything = np.arange(len(labelled))
        with extract(labelled_source(labelled, everything), encoder, options) as embeddings:
            micrographs = Micrographs(labelled, embeddings, everything)
            samples = usable_samples(micrographs, options)
            of_backbone = protocol_rows(micrographs, samples, options)
            results[backbone] = {
                **protocol_summary(of_backbone, samples, groups),
                "separability": separability(micrographs, samples, options.k, options.seed),
                **(sweeps(micrographs, samples, options) if options.sweep else {}),
            }
            pages[backbone] = examples(micrographs, of_backbone, options), planes(micrographs, of_backbone, options)
        rows += [{"backbone": backbone, **row} for row in of_backbone]

    best = max(results, key=lambda name: results[name]["protocols"][KINDS[0]]["dice"]["mean"])
    scored = sum(map(len, samples.values()))
    summary = {
        "data": options.data,
        "samples": list(samples),
        "micrographs": scored,
        "left_out": len(labelled) - scored,
        **{name: getattr(options, name) for name in ("points", "draws", "threshold", "percent", "k")},
        "best": best,
        "backbones": results,
    }
    write_json(folder / "summary.json", summary)
    write_csv(folder / "scores.csv", rows)
    of_backbones = {backbone: tokens for backbone, (_, tokens) in pages.items()}
    write_transfer_report(folder / "report.html", summary, pages[best][0], of_backbones)
    for backbone, result in results.items():
        shown = (f"{kind} {spread_text(of['dice'], 3)}" for kind, of in result["protocols"].items() if of)
        print(f"{backbone}: Dice, {'; '.join(shown)}")
    print(f"mean ± deviation over micrographs / over draws; the report is {folder / 'report.html'}")
    return 0


def check(options: Options) -> None:
    check_extraction(options)


def usable_samples(micrographs: Micrographs, options: Options) -> dict[str, list[int]]:
    """Of each sample the micrographs that have points of both sorts; samples without any are left out."""
    usable = scorable(micrographs)
    groups = by_sample(micrographs.labelled.names, options.sample_pattern)
    samples = {sample: [index for index in group if index in usable] for sample, group in groups.items()}
    samples = {sample: group for sample, group in samples.items() if group}
    if not samples:
        raise InputError(f"no micrograph of {options.data} shows both foreground and background: look at the labels")
    return samples


def examples(micrographs: Micrographs, rows: Sequence[dict], options: Options) -> list[TransferExample]:
    """Of each sample the worst, the median and the best micrograph by its own points, then a median one of each other
    protocol, all by the first draw."""
    first_draw = sorted((row for row in rows if row["draw"] == 0), key=lambda row: row["dice"])
    shown = []
    for sample in dict.fromkeys(row["sample"] for row in rows):
        own = [row for row in first_draw if (row["sample"], row["kind"]) == (sample, KINDS[0])]
        places = dict.fromkeys((0, len(own) // 2, len(own) - 1))  # fewer than three show fewer
        words = {0: "worst", len(own) - 1: "best"}
        shown += [(f"{sample}, {words.get(place, 'median')}", own[place]) for place in places]
    for kind in KINDS[1:]:
        of_kind = [row for row in first_draw if row["kind"] == kind]
        shown += [(f"{kind}, median", row) for row in of_kind[len(of_kind) // 2 :][:1]]
    return [example(micrographs, title, row, options) for title, row in shown]


def example(micrographs: Micrographs, title: str, row: dict, options: Options) -> TransferExample:
    """The pictures of a row of the scores."""
    labelled = micrographs.labelled
    reference, target = (labelled.names.index(row[key]) for key in ("reference", "name"))
    clicks = micrographs.clicks(reference, options, row["draw"])
    model = own_model(micrographs, reference, options, row["draw"])
    heat_map = model.heat_map(micrographs.embedding(target))
    origin = "" if reference == target else f", points on {row['reference']}"
    return TransferExample(
        f"{title}: {row['name']}{origin}, Dice {row['dice']:.3f}",
        labelled.read(reference).pixels,
        Clicks(clicks.positive[: options.points], clicks.negative[: options.points]),
        labelled.read(target).pixels,
        heat_map,
        model.mask(heat_map, options.threshold, options.percent),
        micrographs.foreground(target),
    )


def planes(micrographs: Micrographs, rows: Sequence[dict], options: Options) -> list[Tokens]:
    """The cells of the micrograph of median Dice on planes, with its prototypes."""
    own = sorted((row for row in rows if row["kind"] == KINDS[0] and row["draw"] == 0), key=lambda row: row["dice"])
    index = micrographs.labelled.names.index(own[len(own) // 2]["name"])
    model = own_model(micrographs, index, options, 0)
    return token_planes(micrographs, [index], model, options.map, options.seed)


if __name__ == "__main__":
    run_in_one_process(main)
