"""Scores of instances: AJI and AJI+, panoptic quality, average precision, and counts by size."""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sempre.errors import InputError, how_to_install
from sempre.metrics.overlap import Overlap, overlap_of


def aji_plus(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """AJI+: aggregated intersection over aggregated union under a one-to-one assignment.

    True and predicted instances are paired so that the sum of their IoU is largest; instances of either side that
    are left over count in the union (Graham et al., "HoVer-Net", Medical Image Analysis 58, 2019).

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.

    Returns:
        From 0 to 1; 1 when both sides are empty, 0 when one is.
    """
    overlap = overlap_of(true, predicted)
    pairs = overlap.assignment
    intersection = overlap.intersections[pairs].sum()
    # Paired or not, every instance counts with its area; what pairs share is counted once.
    union = overlap.true_areas.sum() + overlap.predicted_areas.sum() - intersection
    return float(intersection / union) if union else 1.0


def aji(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """AJI as first defined: each true instance takes the prediction of highest IoU, also one taken before.

    Kumar et al., IEEE Trans. Medical Imaging 36, 2017. Arguments and degenerate cases as in `aji_plus`.
    """
    overlap = overlap_of(true, predicted)
    # Sorted by true instance and IoU, the last pair of each true instance is its best.
    order = np.lexsort((overlap.ious, overlap.true))
    last_of_its_kind = np.append(np.diff(overlap.true[order]) > 0, True)[: len(order)]
    best = order[last_of_its_kind]
    intersection = overlap.intersections[best].sum()
    alone = np.delete(overlap.true_areas, overlap.true[best]).sum()
    unused = np.delete(overlap.predicted_areas, np.unique(overlap.predicted[best])).sum()
    union = overlap.unions[best].sum() + alone + unused
    return float(intersection / union) if union else 1.0


FOUND_IOU = 0.4  # from this IoU on a true instance counts as found


@dataclass(frozen=True)
class Matches:
    """Counts of instances: found (correct), missed (true ones without prediction), false positives."""

    correct: int
    missed: int
    false_positives: int


def found_instances(overlap: Overlap, iou: float = FOUND_IOU) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the true instances that any prediction overlaps by at least `iou`, and of the predictions that do.

    So count Rettenberger et al., "Leveraging unlabeled SEM datasets with self-supervised learning for enhanced particle
    segmentation", npj Comput. Mater. 2025, doi 10.1038/s41524-025-01802-3. Up to an IoU of 0.5 two instances may share
    their partner.
    """
    near = overlap.ious >= iou
    return np.unique(overlap.true[near]), np.unique(overlap.predicted[near])


def count_matches(true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU) -> Matches:
    """Count true instances that are found, those that are missed, and predictions that find none (`found_instances`).

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.
    """
    overlap = overlap_of(true, predicted)
    found, finding = found_instances(overlap, iou)
    return Matches(len(found), len(overlap.true_areas) - len(found), len(overlap.predicted_areas) - len(finding))


def count_pairs(true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU) -> int:
    """Pairs of AJI+'s one-to-one assignment that overlap by at least `iou`; none of its instances is counted twice.

    Over the numbers of true and of predicted instances this is the recall and the precision of a matching.
    """
    overlap = overlap_of(true, predicted)
    return int((overlap.ious[overlap.assignment] >= iou).sum())


def panoptic_quality(true: np.ndarray | Overlap, predicted: np.ndarray | None = None) -> float:
    """PQ: the sum of IoU of pairs with IoU > 0.5, over their number plus half of the unpaired instances.

    Kirillov et al., "Panoptic Segmentation", CVPR 2019. Above 0.5 a pair is unique unless instances overlap among
    themselves; then the assignment decides. 1 when both sides are empty, 0 when one is.
    """
    overlap = overlap_of(true, predicted)
    ious = overlap.ious[overlap.assignment]
    ious = ious[ious > 0.5]
    instances = (len(overlap.true_areas) + len(overlap.predicted_areas)) / 2
    return float(ious.sum() / instances) if instances else 1.0


# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pycocotools' own types know neither RLE of counts nor results in memory.


def average_precision(
    true: Mapping[str, Sequence[dict]], predicted: Mapping[str, tuple[Sequence[dict], Sequence[float]]]
) -> dict[str, float]:
    """Mask AP over all samples by pycocotools (Lin et al., "Microsoft COCO", ECCV 2014), of at most 1000 detections
    a sample, or as many as the richest sample has true instances.

    Args:
        true: run lengths (`sempre.images.encode_rle`) of each sample's instances.
        predicted: of the same samples, run lengths and scores.

    Returns:
        `ap` (mean over IoU 0.50 to 0.95), `ap50` and `ap75`, from 0 to 1; nan without any true instance.

    Raises:
        InputError: when pycocotools is not installed.
    """
    try:
        from pycocotools import mask as coco_mask
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError(f"mask AP needs pycocotools: {how_to_install('train')}") from error

    truth, results = COCO(), []
    annotations, images = [], []
    for number, (name, instances) in enumerate(true.items(), start=1):
        sizes = [rle["size"] for rle in (*instances, *predicted[name][0])] or [(1, 1)]
        images.append({"id": number, "height": sizes[0][0], "width": sizes[0][1]})
        common = {"image_id": number, "category_id": 1}
        for rle in instances:
            annotation = {"id": len(annotations) + 1, "iscrowd": 0, "area": sum(rle["counts"][1::2])}
            annotations.append({**common, **annotation, "segmentation": coco_mask.frPyObjects(rle, *rle["size"])})
        for rle, score in zip(*predicted[name], strict=True):
            results.append({**common, "score": float(score), "segmentation": coco_mask.frPyObjects(rle, *rle["size"])})
    if not annotations or not results:
        return dict.fromkeys(("ap", "ap50", "ap75"), float("nan") if not annotations else 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its progress
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "particle"}]}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        most = max(len(instances) for instances in true.values())
        evaluation.params.maxDets = [1, 100, max(1000, most)]  # COCO counts 100, in fields of thousands too few
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]  # the others are not asked for
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 2]  # [IoU thresholds, recalls] of most detections
    thresholds = evaluation.params.iouThrs
    return {
        "ap": float(precision.mean()),
        "ap50": float(precision[np.isclose(thresholds, 0.5)].mean()),
        "ap75": float(precision[np.isclose(thresholds, 0.75)].mean()),
    }


SIZE_EDGES = (8, 16, 32, 64, 128, 256)  # px of equivalent diameter; a bin takes its lower edge
COUNTED = ("true", "found", "false_positives")


def count_by_size(
    true: np.ndarray | Overlap, predicted: np.ndarray | None = None, iou: float = FOUND_IOU
) -> dict[str, list[int]]:
    """Counts of instances in bins of equivalent diameter, that of a disc of the same area.

    The bins are 0 to 8 px, 8 to 16, …, 128 to 256, and 256 px and more (`SIZE_EDGES`).

    Args:
        true, predicted: label images `[H, W]`, 0 = background; or their `Overlap` alone.
        iou: a true instance is found as in `count_matches`.

    Returns:
        Seven counts each: `true` and `found`, by the true instances' size; `false_positives`, by their own.
    """
    overlap = overlap_of(true, predicted)
    found, finding = found_instances(overlap, iou)
    return {
        "true": _histogram(overlap.true_areas),
        "found": _histogram(overlap.true_areas[found]),
        "false_positives": _histogram(np.delete(overlap.predicted_areas, finding)),
    }


def add_by_size(counts: Iterable[Mapping[str, list[int]]]) -> dict[str, list[int]]:
    """The sums of what `count_by_size` gave of one micrograph or more."""
    counts = list(counts)
    return {name: np.sum([count[name] for count in counts], axis=0).tolist() for name in COUNTED}


def size_bin_names() -> list[str]:
    """As in "0–8" or "256+", in px."""
    edges = (0, *SIZE_EDGES)
    return [f"{lower}–{upper}" for lower, upper in zip(edges, SIZE_EDGES, strict=False)] + [f"{edges[-1]}+"]


def _histogram(areas: np.ndarray) -> list[int]:
    diameters = np.sqrt(4 / np.pi * areas)
    return np.bincount(np.digitize(diameters, SIZE_EDGES), minlength=len(SIZE_EDGES) + 1).tolist()
