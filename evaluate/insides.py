"""Look into networks: feature maps of every stage, dead and saturated channels, and where fine-tuned models look.

    python evaluate/insides.py data=my_set runs=[runs/from_fcmae,runs/from_random]    # what fine-tuning made of them
    python evaluate/insides.py data=my_set backbones=[runs/fcmae/backbone,random:convnextv2_pico]    # as pretrained

Figures 5 and 6 of Rettenberger et al. (doi 10.1038/s41524-025-01802-3). `runs` are of finetune/mask_rcnn.py or
finetune/dense.py with a ConvNeXtV2; `backbones` as everywhere. `runs/<name>/` holds `feature_maps_<arm>` as PDF and PNG
and `feature_maps.csv`; of runs also `activation_maps` and their CSV, for which grad-cam is needed
(`pip install -e '.[insides]'`); summary.json and report.html.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from sempre.config import read_options, save_options
from sempre.data.labelled import LabelledMicrograph, LabelledSet
from sempre.errors import InputError
from sempre.files import write_csv, write_json
from sempre.frozen.insides import (
    CAMS,
    LookInto,
    OpenedArm,
    channel_figures,
    check_grad_cam,
    drawn_channels,
    mean_figures,
    open_arms,
    share_on_particles,
    stage_activations,
)
from sempre.images.resize import resize
from sempre.metrics import aji_plus
from sempre.processes import run_in_one_process
from sempre.ranges import Count, Index, NotEmpty, OneOf, RunName, Seed, Share
from sempre.report.figures import save_figure
from sempre.report.insides_page import (
    GRID,
    MAPS,
    Look,
    StageMaps,
    draw_activation_maps,
    draw_feature_maps,
    write_insides_report,
)
from sempre.training.scoring import true_overlap

Cams = Annotated[list[str], OneOf(*CAMS), NotEmpty()]


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    runs: list[str] = field(default_factory=list)  # finished fine-tunings of a ConvNeXtV2
    backbones: list[str] = field(default_factory=list)  # backbone/ folders, files of the original code, random:<name>
    micrographs: list[str] = field(default_factory=list)  # names of micrographs to show; []: some held-out ones
    shown: Count = 2  # number of micrographs to show
    name: RunName = "insides"  # the result goes to runs/<name>
    cams: Cams = field(default_factory=lambda: ["grad"])  # Grad-CAM, and Ablation-CAM: a pass for each of its channels
    stage: Index = -1  # stage of the backbone whose maps are shown; -2: twice as fine
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; same split as in fine-tuning
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    seed: Seed = 0  # random seed of the drawn micrographs and channels


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    if not options.runs and not options.backbones:
        raise InputError("nothing to look into: give runs=[runs/my_particles] or backbones=[runs/fcmae/backbone]")
    if options.runs:
        check_grad_cam()
    labelled = LabelledSet(options.data, components=None)
    indices = chosen(options, labelled)
    arms = open_arms(options.runs, options.backbones, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    folder = Path("runs") / options.name
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")

    feature_rows, feature_means, activation_rows = [], {}, []
    looks: dict[str, dict[str, dict[str, Look]]] = {cam: {} for cam in options.cams}
    for arm in arms:
        # Each arm sees micrographs as it was trained to, by its own percentiles.
        own = LabelledSet(options.data, percentiles=arm.percentiles, components=None)
        micrographs = {labelled.names[index]: own.read(index) for index in indices}
        stages = {name: stage_maps(arm, micrograph, options.seed) for name, micrograph in micrographs.items()}
        pixels = {name: micrograph.pixels for name, micrograph in micrographs.items()}
        save_figure(draw_feature_maps(pixels, stages), folder / f"feature_maps_{arm.name}")
        for number in range(len(next(iter(stages.values())))):
            figures = {name: of_micrograph[number].figures for name, of_micrograph in stages.items()}
            feature_rows += [
                {"arm": arm.name, "micrograph": name, "stage": number + 1, **asdict(one)}
                for name, one in figures.items()
            ]
            feature_means.setdefault(arm.name, []).append(mean_figures(list(figures.values())))
        for cam, of_cam in looks.items():
            if arm.look is None:
                continue
            of_cam[arm.name] = {
                name: look(arm.look, micrograph, options.stage, cam) for name, micrograph in micrographs.items()
            }
            activation_rows += [
                {"arm": arm.name, "cam": cam, "micrograph": name, **activation_figures(of_cam[arm.name][name], shown)}
                for name, shown in micrographs.items()
            ]
    write_csv(folder / "feature_maps.csv", feature_rows)
    if activation_rows:
        micrographs = {labelled.names[index]: labelled.read(index) for index in indices}
        for cam, of_cam in looks.items():
            save_figure(draw_activation_maps(micrographs, of_cam), folder / MAPS[cam])
        write_csv(folder / "activation_maps.csv", activation_rows)
    summary = {
        "data": options.data,
        "micrographs": [labelled.names[index] for index in indices],
        "feature_maps": feature_means,
        **{MAPS[cam]: {arm: means_of(activation_rows, arm, cam) for arm in of_cam} for cam, of_cam in looks.items()},
    }
    write_json(folder / "summary.json", summary)
    about = f"{options.data}: {', '.join(summary['micrographs'])}."
    write_insides_report(folder, about, summary)
    print(f"{folder / 'report.html'}")
    return 0


def chosen(options: Options, labelled: LabelledSet) -> list[int]:
    """Positions of the micrographs to show: those named, else some drawn from the held-out split."""
    if options.micrographs:
        if unknown := [name for name in options.micrographs if name not in labelled.names]:
            raise InputError(f"micrographs={unknown[0]} is not in {options.data}: give the names without suffix")
        return [labelled.names.index(name) for name in options.micrographs]
    _, held_out = labelled.split(
        options.validation_fraction, options.split_seed, options.split_file or None, options.test_fraction
    )
    if not len(held_out):
        raise InputError(f"no micrograph of {options.data} is held out: give micrographs=[…] by name")
    draws = np.random.default_rng(options.seed)
    return sorted(draws.choice(held_out, min(options.shown, len(held_out)), replace=False).tolist())


def stage_maps(arm: OpenedArm, micrograph: LabelledMicrograph, seed: int) -> list[StageMaps]:
    """Some channels of each stage's maps, and the figures of all."""
    seen = resize(micrograph.pixels.astype(np.float32) / 255, arm.scale)
    images = torch.from_numpy(seen)[None, None].to(arm.encoder.device)
    shown = []
    for maps in stage_activations(arm.encoder.network, arm.encoder.normalise(images)):
        drawn = maps[0, drawn_channels(maps.shape[1], GRID**2, seed)].cpu().numpy()
        shown.append(StageMaps(drawn, float(maps[0].std(dim=(1, 2)).max()), channel_figures(maps)))
    return shown


def look(into: LookInto, micrograph: LabelledMicrograph, stage: int, cam: str) -> Look:
    predicted, activation = into(micrograph.pixels.astype(np.float32) / 255, stage, cam)
    return Look(predicted, activation, share_on_particles(activation, micrograph.foreground))


def activation_figures(look: Look, micrograph: LabelledMicrograph) -> dict[str, float]:
    return {
        "aji_plus": aji_plus(true_overlap(micrograph, look.predicted)),
        "on_particles": look.on_particles,
        "area_share": float(micrograph.foreground.mean()),
    }


def means_of(rows: list[dict], arm: str, cam: str) -> dict[str, float]:
    own = [row for row in rows if (row["arm"], row["cam"]) == (arm, cam)]
    return {name: float(np.mean([row[name] for row in own])) for name in ("aji_plus", "on_particles", "area_share")}


if __name__ == "__main__":
    run_in_one_process(main)
