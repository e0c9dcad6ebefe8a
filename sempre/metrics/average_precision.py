"""Mask average precision as COCO defines it."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pycocotools' own types know neither RLE of counts nor results in memory.

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np

from sempre.errors import InputError, how_to_install


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
