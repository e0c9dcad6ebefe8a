"""COCO instance annotations: polygons or run lengths, overlapping instances kept."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask  # its stubs know neither polygons of floats nor plain run lengths

from sempre.errors import InputError, warn
from sempre.files import read_json, whole_or_absent
from sempre.images import encode_rle, instance_boxes

BACKGROUND = {"background", "_background_", "__background__", "__ignore__"}  # categories that are no particles
SAME_OUTLINE = 0.9  # IoU from which two outlines are of one particle: rounding and redrawing change less
LIKE_OUTLINE = 0.5  # IoU that two particles' outlines seldom have
FEW_PIXELS = 20  # a particle of fewer has an IoU that one pixel changes much
FAR = 4  # px between the sides of an annotation's box and of its outline


def read_coco(path: str | Path) -> dict[str, dict]:
    """The annotated images of a COCO file by file name: each a dict of `height` and `width` in px, or None,
    `segmentations` and `boxes`, a box (x, y, width, height) or None for each segmentation.

    Annotations marked `iscrowd` outline groups, not instances, and are left out, as are those of a category called
    background and those without box and outline; how many is said. All other categories count as particle. Ids may be
    numbers or text, names may have the folders of Windows. An image that is listed again is the same one where the
    second listing says the same or has no annotations.

    Raises:
        InputError: when the file is no COCO instance file, gives two images one id, lists an image again with other
            annotations, or has annotations with a box alone or of an image that it does not list.
    """
    path = Path(path)
    try:
        content = read_json(path)
        images = _read_images(path, content)
        said = _add_annotations(path, content, images)
    except InputError:
        raise
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no COCO instance file: {type(error).__name__} {error}") from error
    if said:
        warn(f"{path}: {said}")
    by_name: dict[str, dict] = {}
    for image in images.values():
        name = image["file_name"]
        by_name[name] = merge_entries(path, name, by_name[name], image) if name in by_name else image
    return by_name


def merge_entries(path: Path, name: str, first: dict, second: dict) -> dict:
    """What a file's two entries for the micrograph `name` say together.

    Raises:
        InputError: where each has annotations of its own, or they differ in size.
    """
    sizes = {(entry["height"], entry["width"]) for entry in (first, second)}
    outlined = [entry for entry in (first, second) if entry["segmentations"]]
    if len(sizes) > 1 or (len(outlined) > 1 and first["segmentations"] != second["segmentations"]):
        raise InputError(
            f"{path} lists {name} twice, with {len(first['segmentations'])} and {len(second['segmentations'])} "
            "outlines: keep the one that is right"
        )
    warn(f"{path} lists {name} twice: it counts once")
    return (outlined or [first])[0]


def portable_name(name: object) -> str:
    """A file's name with `/` between its folders, without the scheme of an address and without "./" before it."""
    text = re.sub(r"^(file|https?|s3|gs)://+", "/", str(name).strip().replace("\\", "/"))
    while text.startswith("./"):
        text = text[2:]
    return text


def _read_images(path: Path, content: dict) -> dict[str, dict]:
    """The entry of each image by its id."""
    images: dict[str, dict] = {}
    for image in content["images"]:
        name = portable_name(image["file_name"])
        size = [None if image.get(side) is None else int(image[side]) for side in ("height", "width")]
        entry = {"file_name": name, "height": size[0], "width": size[1]}
        known = images.setdefault(_key(image["id"]), {**entry, "segmentations": [], "boxes": []})
        if any(known[field] != entry[field] for field in entry):
            raise InputError(
                f"{path} gives the id {image['id']} to both {known['file_name']} and {name}, so that their annotations "
                "cannot be told apart: merge the files again with a tool that numbers the images anew"
            )
    return images


def _key(number: object) -> str:
    """An id as text: 3, 3.0 and "3" are one."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number)


def _add_annotations(path: Path, content: dict, images: dict[str, dict]) -> str:
    """Add the outlines to their images; what is left out is said in the sentence that is returned, perhaps empty."""
    background = {
        _key(category["id"])
        for category in content.get("categories") or ()
        if str(category.get("name", "")).lower() in BACKGROUND
    }
    crowds = nothing = others = 0
    boxed: list[str] = []
    for annotation in content["annotations"]:
        image = images.get(_key(annotation["image_id"]))
        if image is None:
            raise InputError(
                f"{path} has an annotation of the image {annotation['image_id']}, which it does not list: list it, "
                "or remove its annotations"
            )
        outline, box = _outline(annotation.get("segmentation")), _box(annotation.get("bbox"))
        if _key(annotation.get("category_id")) in background:
            others += 1
        elif annotation.get("iscrowd") not in (None, 0, "0", "", False):
            crowds += 1
        elif outline is None and box is not None:
            boxed.append(image["file_name"])
        elif outline is None:
            nothing += 1
        else:
            image["segmentations"].append(outline)
            image["boxes"].append(box)
    if boxed:
        raise InputError(
            f"{path} has {len(boxed)} annotations of {len(content['annotations'])} that are boxes without an outline, "
            f"the first in {boxed[0]}: outline these particles too (of round ones data/boxes.py makes ellipses from "
            "YOLO's boxes)"
        )
    left_out = {
        "{} annotations are marked iscrowd, as groups are": crowds,
        "{} annotations have no outline": nothing,
        "{} annotations are of the background": others,
    }
    said = " and ".join(text.format(count) for text, count in left_out.items() if count)
    return said and f"{said}: they are left out"


def _outline(segmentation: object) -> list | dict | None:
    """A segmentation as COCO has it: a list of polygons, or run lengths; None where it outlines nothing."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return segmentation
    if not isinstance(segmentation, list):
        raise ValueError(f"a segmentation is {str(segmentation)[:40]!r}")
    if all(isinstance(number, int | float) for number in segmentation):
        segmentation = [segmentation]  # one polygon, without the list around it
    elif len(segmentation) > 2 and all(isinstance(point, list) and len(point) == 2 for point in segmentation):
        segmentation = [[number for point in segmentation for number in point]]  # one polygon of points
    polygons = [polygon for polygon in segmentation if polygon and len(polygon) >= 6]
    return polygons or None


def _box(box: object) -> list[float] | None:
    """A box (x, y, width, height) in px that has an area; else None."""
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        return None
    return [float(side) for side in box] if box[2] > 0 and box[3] > 0 else None


def coco_layers(annotated: dict, path: str | Path) -> np.ndarray:
    """One image's instances as label layers int32 `[L, H, W]`: instances that overlap lie in different layers.

    Ids run from 1 in the order of the annotations, over all layers. Instances without a pixel are left out, and one of
    two whose outlines are the same; both is said.

    Raises:
        InputError: for a segmentation that is none or lies outside of the image, or outlines that lie elsewhere than
            their boxes; `path` is named as their origin.
    """
    height, width = annotated["height"], annotated["width"]
    name = annotated.get("file_name", "an image")
    layers = [np.zeros((height, width), dtype=np.int32)]
    areas: list[int] = [0]
    empty = again = alike = elsewhere = 0
    boxes = annotated.get("boxes") or [None] * len(annotated["segmentations"])
    for segmentation, given in zip(annotated["segmentations"], boxes, strict=True):
        try:
            y, x, mask = _mask_of(segmentation, height, width)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path} has a segmentation of {name} that cannot be read: {error}") from error
        if not mask.any():
            empty += 1
            continue
        box = np.s_[y : y + mask.shape[0], x : x + mask.shape[1]]
        elsewhere += given is not None and not _boxes_agree(given, (x, y, *mask.shape[::-1]), height, width)
        area, overlap = int(mask.sum()), _largest_iou(layers, areas, box, mask)
        if overlap >= (SAME_OUTLINE if area >= FEW_PIXELS else 1):
            again += 1
            continue
        alike += overlap >= LIKE_OUTLINE and area >= FEW_PIXELS
        areas.append(area)
        free = next((layer for layer in layers if not layer[box][mask].any()), None)
        if free is None:
            free = np.zeros((height, width), dtype=np.int32)
            layers.append(free)
        free[box][mask] = len(areas) - 1
    instances = len(areas) - 1
    if 2 * elsewhere > max(instances, 1):
        raise InputError(
            f"{path} outlines {elsewhere} particles of {name} elsewhere than in their boxes: its run lengths may run "
            "along rows instead of columns, export it again"
        )
    if annotated["segmentations"] and not instances:
        raise InputError(
            f"{path} has {empty} outlines of {name} that cover no pixel: coordinates must be in px, not in shares"
        )
    if empty:
        warn(f"{path}: {empty} outlines of {name} cover no pixel and are left out")
    if again:
        warn(f"{path}: {again} outlines of {name} are there twice and count once")
    if 3 * alike > instances:
        warn(f"{path}: {alike} of {instances} outlines of {name} lie over another: it may have been annotated twice")
    return np.stack(layers)


def _largest_iou(layers: list[np.ndarray], areas: list[int], box: tuple[slice, slice], mask: np.ndarray) -> float:
    """The largest IoU of a mask `[h, w]` that lies at `box` with an instance in the layers."""
    best, area = 0.0, int(mask.sum())
    for layer in layers:
        ids, shared = np.unique(layer[box][mask], return_counts=True)
        for number, pixels in zip(ids.tolist(), shared.tolist(), strict=True):
            if number:
                best = max(best, pixels / (area + areas[number] - pixels))
    return best


def _boxes_agree(given: list[float], found: tuple[int, int, int, int], height: int, width: int) -> bool:
    """Whether a box as annotated lies about where the outline's box (x, y, width, height) does.

    It may be written as x, y, width and height or by two corners, in px or as shares of the image.
    """
    x, y, box_width, box_height = found
    corners = np.array([x, y, x + box_width, y + box_height], float)
    sides = np.array([width, height, width, height], float)
    one, two, three, four = given
    return any(
        np.abs(np.clip(np.array(way) * unit, 0, sides) - corners).max() <= max(FAR, 0.5 * max(box_width, box_height))
        for way in ((one, two, one + three, two + four), (one, two, three, four))
        for unit in (1.0, sides)
    )


def _mask_of(segmentation: list | dict, height: int, width: int) -> tuple[int, int, np.ndarray]:
    """The place (y, x) and the bool mask `[h, w]` of what a segmentation covers, in its smallest box.

    Beside COCO's polygons and run lengths it may be `{"even_odd": [polygon, …]}`, polygons that cut holes into others.

    Raises:
        ValueError, KeyError or TypeError: for one that is none of these, or lies outside of the image.
    """
    if isinstance(segmentation, dict) and "even_odd" in segmentation:
        whole = np.zeros((height, width), bool)
        for corners in segmentation["even_odd"]:
            polygon = _polygon(corners, height, width)
            (encoded,) = coco_mask.frPyObjects([polygon], height, width)  # pyright: ignore[reportCallIssue, reportArgumentType]
            whole ^= coco_mask.decode(encoded).astype(bool)
        rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
        if not len(rows):
            return 0, 0, whole[:0, :0]
        y, x = int(rows[0]), int(columns[0])
        return y, x, whole[y : rows[-1] + 1, x : columns[-1] + 1]
    if isinstance(segmentation, list):
        polygons = [_polygon(corners, height, width) for corners in segmentation if len(corners) >= 6]
        if not polygons:
            return 0, 0, np.zeros((0, 0), bool)
        encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))  # pyright: ignore[reportCallIssue, reportArgumentType]
    else:
        lengths = {"size": [height, width], "counts": _run_lengths_of(segmentation, height, width)}
        encoded = coco_mask.frPyObjects(lengths, height, width)  # pyright: ignore[reportCallIssue, reportArgumentType]
    x, y, box_width, box_height = (int(side) for side in coco_mask.toBbox(encoded))
    return y, x, coco_mask.decode(encoded)[y : y + box_height, x : x + box_width].astype(bool)


def _polygon(corners: object, height: int, width: int) -> list[float]:
    """A polygon x0, y0, x1, y1, …, checked: pycocotools takes memory by its length, and trusts it to be numbers."""
    polygon = np.asarray(corners, dtype=np.float64)
    if polygon.ndim != 1 or len(polygon) % 2:
        raise ValueError("a polygon is no list of x, y, x, y, …")
    side = np.tile([width, height], len(polygon) // 2)
    if not ((polygon >= -side) & (polygon <= 2 * side)).all():
        raise ValueError("a polygon lies far outside of the image")
    points = polygon.reshape(-1, 2)
    if (points.max(0) <= 0).any() or (points.min(0) >= [width, height]).any():
        raise ValueError("a polygon lies outside of the image: outlines must be drawn on the same pixels")
    return polygon.tolist()


def _run_lengths_of(segmentation: dict, height: int, width: int) -> list[int]:
    """The run lengths of a segmentation, checked: pycocotools writes as many pixels as they say."""
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"its size is {segmentation['size']}, the image's {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = decompress_counts(counts)
    elif any(float(count) != int(count) for count in counts):
        raise ValueError("its run lengths are no whole numbers")
    counts = [int(count) for count in counts]
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
