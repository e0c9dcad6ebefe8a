"""How well masks fit before and after their refinement, over micrographs, folds and repeats."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from sempre.data.labels.folds import Fold
from sempre.embeddings.refinement.refiner import RefinerInputs
from sempre.embeddings.segmentation.prototype_protocols import spread
from sempre.images import write_mask_png
from sempre.metrics import by_group, dice, hd95, iou
from sempre.models.segmenters.unet import UNet

FOLDERS = {"samples": "predictions", "heat_map": "heat_map"}  # where the masks of either side of the scores lie


def score_fold(network: UNet, cut: float, inputs: RefinerInputs, fold: Fold, folder: Path) -> dict:
    """Score the held-out micrographs' masks, the network's and those of the heat maps alone, and write both.

    Args:
        cut: px of a higher probability are foreground.
        folder: takes `predictions/<name>.png` and, where there are heat maps, `heat_map/<name>.png`.

    Returns:
        `threshold`, which is the cut; the names of the micrographs in `fitted` and `stopping`; and by name the scores
        `dice`, `iou` and `hd95_px` of the network's masks, as `samples`, and of the heat maps' own, as `heat_map`.
    """
    scores: dict[str, dict[str, dict[str, float]]] = {side: {} for side in FOLDERS}
    predictions = inputs.predictions(network, fold.held_out)
    for index, (image, true) in zip(tqdm(fold.held_out, desc="scoring"), predictions, strict=True):
        name = inputs.labelled.names[index]
        masks = {"samples": image > cut, "heat_map": inputs.heat_mask(index, true.shape)}
        for side, mask in masks.items():
            if mask is not None:
                scores[side][name] = {"dice": dice(true, mask), "iou": iou(true, mask), "hd95_px": hd95(true, mask)}
                write_mask_png(folder / FOLDERS[side] / f"{name}.png", mask)
    training = {"fitted": fold.fitted, "stopping": fold.stopping}
    names = {side: [inputs.labelled.names[index] for index in indices] for side, indices in training.items()}
    return {"threshold": cut, **names, **scores}


def summarise_folds(repeats: Sequence[Mapping[str, Mapping]], groups: Mapping[str, str] | None = None) -> dict:
    """What a run's `summary.json` says of its repeats.

    Args:
        repeats: of each by the name of each fold what `score_fold` gives; repeats have the same folds.
        groups: the group of each micrograph by its name, if they are to be scored apart.

    Returns:
        Mean `scores`, and `refined` and `heat_map` as `spread_of` gives them, of the `micrographs`; `folds`, the first
        repeat's, and `repeats`. With groups `groups` and `heat_map_groups`, such spreads by group.
    """
    refined, before = (spread_of(repeats, side) for side in FOLDERS)
    held_out = [name for fold in repeats[0].values() for name in fold["samples"]]
    summary = {
        "scores": {name: of["mean"] for name, of in (refined or {}).items()},
        "refined": refined,
        "heat_map": before,
        "micrographs": len(held_out),
        "folds": repeats[0],
        "repeats": repeats,
    }
    if groups:
        members = by_group({name: name for name in held_out}, groups)
        summary["groups"] = {group: spread_of(repeats, "samples", names) for group, names in members.items()}
        summary["heat_map_groups"] = {group: spread_of(repeats, "heat_map", names) for group, names in members.items()}
    return summary


def spread_of(
    repeats: Sequence[Mapping[str, Mapping]], side: str, names: Container[str] | None = None
) -> dict[str, dict[str, float]] | None:
    """Mean and deviations of one side of the scores, over micrographs, or those of `names` alone, and over repeats.

    As `sempre.embeddings.segmentation.prototype_protocols.spread`; None where there are no scores.
    """
    rows = [
        {"name": name, "draw": repeat, **sample}
        for repeat, scores in enumerate(repeats)
        for fold in scores.values()
        for name, sample in fold[side].items()
        if names is None or name in names
    ]
    return spread(rows, of=("name",))
