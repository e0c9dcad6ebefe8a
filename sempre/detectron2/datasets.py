"""A labelled set under a name in detectron2's catalogue, for pipelines that read from there."""

from collections.abc import Iterable

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.predictions import true_masks
from sempre.errors import InputError


def register_labelled_set(name: str, labelled: LabelledSet, indices: Iterable[int]) -> None:
    """Register the micrographs at `indices` as `name`; label images or COCO annotations, as the set has them.

    The catalogue's records name the micrographs' files as they are; pipelines that read them by detectron2's own mapper
    take masks with `INPUT.MASK_FORMAT: bitmask`, and are shown grey values that are not normalised by percentiles.

    Raises:
        InputError: for a name that is taken.
    """
    if name in DatasetCatalog.list():
        raise InputError(f"detectron2's catalogue has a set called {name} already: choose another name")
    indices = [int(index) for index in indices]
    DatasetCatalog.register(name, lambda: [_record(labelled, index) for index in indices])
    MetadataCatalog.get(name).set(thing_classes=["particle"], evaluator_type="coco")


def _record(labelled: LabelledSet, index: int) -> dict:
    micrograph = labelled.read(index)
    height, width = micrograph.pixels.shape
    return {
        "file_name": str(labelled.images[index]),
        "image_id": labelled.names[index],
        "height": height,
        "width": width,
        "annotations": [_annotation(mask) for mask in true_masks(micrograph)],
    }


def _annotation(mask: np.ndarray) -> dict:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return {
        "bbox": [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "segmentation": coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
    }
