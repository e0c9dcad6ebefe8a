"""COCO instance annotations: polygons or run lengths, overlapping instances kept."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask  # its stubs know neither polygons of floats nor plain run lengths

from sempre.errors import InputError
from sempre.files import read_json, whole_or_absent
from sempre.images import encode_rle, instance_boxes


def read_coco(path: str | Path) -> dict[str, dict]:
    """The annotated images of a COCO file by file name: each a dict of `height`, `width` (px) and `segmentations`.

    Annotations marked `iscrowd` outline groups, not instances, and are left out. All categories count as particle.

    Raises:
        InputError: when the file is no COCO instance file.
    """
    try:
        content = read_json(path)
        images = {
            image["id"]: {"height": int(image["height"]), "width": int(image["width"]), "segmentations": []}
            for image in content["images"]
        }
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd", 0):
                images[annotation["image_id"]]["segmentations"].append(annotation["segmentation"])
        return {str(image["file_name"]): images[image["id"]] for image in content["images"]}
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no COCO instance file: {type(error).__name__} {error}") from error


def coco_layers(annotated: dict, path: str | Path) -> np.ndarray:
    """One image's instances as label layers int32 `[L, H, W]`: instances that overlap lie in different layers.

    Ids run from 1 in the order of the annotations, over all layers. Instances without a pixel are left out.

    Raises:
        InputError: for a segmentation that is none or lies far outside of the image; `path` is named as its origin.
    """
    height, width = annotated["height"], annotated["width"]
    layers = [np.zeros((height, width), dtype=np.int32)]
    instances = 0
    for segmentation in annotated["segmentations"]:
        try:
            if isinstance(segmentation, list):
                polygons = [_polygon(corners, height, width) for corners in segmentation if len(corners) >= 6]
                if not polygons:
                    continue
                parts = coco_mask.frPyObjects(polygons, height, width)  # pyright: ignore[reportCallIssue, reportArgumentType]
                encoded = coco_mask.merge(parts)
            else:
                counts = _run_lengths_of(segmentation, height, width)
                lengths = {"size": [height, width], "counts": counts}
                encoded = coco_mask.frPyObjects(lengths, height, width)  # pyright: ignore[reportCallIssue, reportArgumentType]
            x, y, box_width, box_height = (int(side) for side in coco_mask.toBbox(encoded))
            box = np.s_[y : y + box_height, x : x + box_width]
            mask = coco_mask.decode(encoded)[box].astype(bool)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path} has a segmentation that cannot be read: {error}") from error
        if not mask.any():
            continue
        instances += 1
        free = next((layer for layer in layers if not layer[box][mask].any()), None)
        if free is None:
            free = np.zeros((height, width), dtype=np.int32)
            layers.append(free)
        free[box][mask] = instances
    return np.stack(layers)


def _polygon(corners: object, height: int, width: int) -> list[float]:
    """A polygon x0, y0, x1, y1, …, checked: pycocotools takes memory by its length, and trusts it to be numbers."""
    polygon = np.asarray(corners, dtype=np.float64)
    if polygon.ndim != 1 or len(polygon) % 2:
        raise ValueError("a polygon is no list of x, y, x, y, …")
    side = np.tile([width, height], len(polygon) // 2)
    if not ((polygon >= -side) & (polygon <= 2 * side)).all():
        raise ValueError("a polygon lies far outside of the image")
    return polygon.tolist()


def _run_lengths_of(segmentation: dict, height: int, width: int) -> list[int]:
    """The run lengths of a segmentation, checked: pycocotools writes as many pixels as they say."""
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"its size is {segmentation['size']}, the image's {[height, width]}")
    counts = segmentation["counts"]
    counts = decompress_counts(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"its run lengths sum to {sum(counts)}, not to {height}x{width}")
    return counts


def decompress_counts(text: str) -> list[int]:
    """The run lengths that COCO's letters stand for.

    Five bits a letter, the lowest first, the sixth where more follow; from the fourth on each is told by its difference
    to the one before the last (pycocotools, common/maskApi.c, rleFrString).

    Raises:
        ValueError: for letters that are none of COCO's, and for an end amid a number.
    """
    counts: list[int] = []
    number, bits = 0, 0
    for letter in text:
        value = ord(letter) - 48
        if not 0 <= value < 64:
            raise ValueError(f"its run lengths have the letter {letter!r}")
        number |= (value & 31) << bits
        bits += 5
        if value & 32:
            continue
        if value & 16:
            number -= 1 << bits
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number, bits = 0, 0
    if bits:
        raise ValueError("its run lengths end amid a number")
    return counts


def write_coco(path: str | Path, labelled: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write file names with their label images `[H, W]` as a COCO instance file, which CVAT and others import.

    Instances are uncompressed run lengths of the one category `particle`. They are written one after the other, so only
    one label image is in memory. Whole or absent.
    """
    images, annotations = [], 0
    with whole_or_absent(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for image_id, (file_name, labels) in enumerate(labelled, start=1):
            height, width = labels.shape
            images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
            for instance, (x0, y0, x1, y1) in zip(*instance_boxes(labels), strict=True):
                annotations += 1
                annotation = {
                    "id": annotations,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": int(np.count_nonzero(labels[y0:y1, x0:x1] == instance)),
                    "bbox": [int(x0), int(y0), int(x1 - x0), int(y1 - y0)],
                    "segmentation": _run_lengths(labels, instance, x0, x1),
                }
                file.write((", " if annotations > 1 else "") + json.dumps(annotation))
        rest = {"images": images, "categories": [{"id": 1, "name": "particle"}]}
        file.write("], " + json.dumps(rest).removeprefix("{") + "\n")


def _run_lengths(labels: np.ndarray, instance: int, x0: int, x1: int) -> dict:
    """Run lengths of an instance that lies in the columns x0 to x1, the only ones that are looked at."""
    height, width = labels.shape
    counts = encode_rle(labels[:, x0:x1] == instance)["counts"]
    after = height * (width - x1)
    if len(counts) % 2:
        counts[-1] += after
    elif after:
        counts.append(after)
    return {"size": [height, width], "counts": [int(count) for count in (counts[0] + height * x0, *counts[1:])]}
