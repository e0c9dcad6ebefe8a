"""Outlines as labelling tools write them: LabelMe, VIA, CVAT, and ImageJ's ROI manager, beside COCO.

All become entries as of COCO (`sempre.data.coco.read_coco`), so that pycocotools draws them.
"""

import base64
import binascii
import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from PIL import Image

from sempre.data.boxes import parse_xml, refuse_boxes
from sempre.data.coco import BACKGROUND, coco_layers, merge_entries, read_coco
from sempre.data.imagej_rois import read_rois
from sempre.data.label_files import OUTLINE_SUFFIXES
from sempre.data.outlines import (
    add_outline,
    ellipse,
    outline_entry,
    placed_mask,
    polygon,
    rectangle,
    say_skipped,
    warn_of_boxes,
)
from sempre.errors import InputError, one_input_error
from sempre.files import parse_json, read_json
from sempre.images.label_images import read_labels
from sempre.images.read import check_size

VIA3_SHAPES = {2: "rect", 3: "circle", 4: "ellipse", 7: "polygon"}


def read_annotations(path: str | Path) -> dict[str, dict]:
    """The annotated micrographs of an export by file name, as `read_coco` gives them: COCO, VIA (JSON of versions 1 to
    3, or CSV) or CVAT ("CVAT for images", XML).

    Points and lines outline nothing and are left out, which is said.

    Raises:
        InputError: for a file that is none of these, and as `read_coco` does.
    """
    path = Path(path)
    entries: list[dict]
    skipped: list[str] = []
    with one_input_error(lambda reason: f"{path} cannot be read as an export of labels: {reason}"):
        if path.suffix.lower() == ".xml":
            entries = _read_cvat(path, skipped)
        elif path.suffix.lower() == ".csv":
            entries = _read_via_csv(path, skipped)
        else:
            content = _json_content(path)
            if isinstance(content, dict) and "shapes" in content:
                raise InputError(f"{path} is LabelMe's file of one micrograph: put it beside that, with its stem")
            if not isinstance(content, dict) or not _is_via(content):
                images = read_coco(path)
                warn_of_boxes(path, images.values())
                return images
            entries = _read_via(content, skipped)
    images = {}
    for entry in entries:
        name = entry["file_name"]
        images[name] = merge_entries(path, name, images[name], entry) if name in images else entry
    say_skipped(path, skipped)
    warn_of_boxes(path, images.values())
    return images


def _json_content(path: Path) -> object:
    """What a file holds; None where it is no JSON."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def holds_annotations(path: Path) -> bool:
    """Whether a file is an export that `read_annotations` reads, by what is in it."""
    try:
        if path.suffix.lower() == ".xml":
            return parse_xml(path).find("image") is not None
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig") as file:
                return "region_shape_attributes" in file.readline()
    except (OSError, ValueError, LookupError, ElementTree.ParseError, expat.ExpatError):
        return False
    content = _json_content(path)
    return _is_via(content) or (isinstance(content, dict) and {"images", "annotations"} <= set(content))


def read_label_file(path: Path, shape: tuple[int, int] | None, components: bool | None = False) -> np.ndarray:
    """The labels of one micrograph as layers int32 `[L, H, W]`, more than one where instances overlap.

    Args:
        path: a label image (`read_labels`), LabelMe's `.json`, run lengths as `.json` (tools/score.py), or ImageJ's
            ROIs as `.zip` or `.roi`.
        shape: height and width of the micrograph in px; None where it is not known, which only ROIs need.
        components: as `read_labels` takes it.

    Raises:
        InputError: for a file that is none of these.
    """
    if path.suffix.lower() not in OUTLINE_SUFFIXES:
        return read_labels(path, components)[None]
    with one_input_error(lambda reason: f"{path} cannot be read as labels: {reason}"):
        entry = read_rois(path) if path.suffix.lower() in (".zip", ".roi") else _read_json_of_one(path)
        height, width = entry["height"] or (shape and shape[0]), entry["width"] or (shape and shape[1])
        if height is None or width is None:
            raise InputError(f"{path} does not say how large its micrograph is: take label images on the other side")
        check_size(path, (height, width))
        return coco_layers({**entry, "height": height, "width": width}, path)


# LabelMe


def _read_json_of_one(path: Path) -> dict:
    """The entry of LabelMe's file, or of a file of run lengths."""
    content = read_json(path)
    if isinstance(content, dict) and "shapes" in content:
        return _read_labelme(path, content)
    if isinstance(content, dict) and {"size", "instances"} <= set(content):
        entry = outline_entry(path.stem, *content["size"])
        for instance in content["instances"]:
            add_outline(entry, {"size": list(content["size"]), "counts": instance["counts"]})
        return entry
    raise InputError(f"{path} holds no run lengths (size and instances) and no shapes of LabelMe")


def _read_labelme(path: Path, content: dict) -> dict:
    """Shapes that share a label and a group's number are one particle, as LabelMe's own converters take them."""
    entry = outline_entry(content.get("imagePath") or path.stem, content.get("imageHeight"), content.get("imageWidth"))
    groups: dict[tuple[str, str], list] = {}
    skipped = []
    for shape in content["shapes"]:
        kind, points, label = shape.get("shape_type") or "polygon", shape["points"], str(shape.get("label", ""))
        if label.lower() in BACKGROUND:
            continue
        if kind == "mask":
            add_outline(entry, _labelme_mask(shape, entry))
            continue
        if kind in ("polygon", "rotation", "oriented_rectangle") or (kind == "rectangle" and len(points) == 4):
            polygons = polygon(points) if len(points) > 2 else []
        elif kind == "rectangle":
            polygons = rectangle(*points[0], *points[1])
        elif kind == "circle":
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            polygons = ellipse(x, y, radius, radius)
        else:
            polygons = []
        if not polygons:
            skipped.append(f"a {kind} of {len(points)} points")
        elif shape.get("group_id") is None:
            add_outline(entry, polygons)
        elif (group := (label, str(shape["group_id"]))) in groups:
            groups[group] += polygons
        else:
            groups[group] = polygons
            add_outline(entry, polygons)
    say_skipped(path, skipped)
    return entry


def _labelme_mask(shape: dict, entry: dict) -> dict:
    """Run lengths of a shape whose mask is a PNG in base64 that lies at its first point."""
    try:
        png = base64.b64decode(shape["mask"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"the mask of a shape is no base64: {error}") from error
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        x, y = (round(number) for number in shape["points"][0])
        if not entry["height"] or not entry["width"]:
            raise ValueError("imageHeight and imageWidth are lacking")
        if image.width > entry["width"] or image.height > entry["height"]:
            raise ValueError("the mask of a shape is larger than its image")
        mask = np.asarray(image.convert("L")) > 0
    return placed_mask(mask, x, y, entry["height"], entry["width"])


# VIA (VGG Image Annotator)


def _is_via(content: object) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    if "_via_img_metadata" in content or {"file", "view", "metadata"} <= set(content):
        return True
    return all(isinstance(of, dict) and {"filename", "regions"} <= set(of) for of in content.values())


def _read_via(content: dict, skipped: list[str]) -> list[dict]:
    if {"file", "view", "metadata"} <= set(content):
        return _read_via3(content, skipped)
    entries = []
    for image in content.get("_via_img_metadata", content).values():
        entry = outline_entry(image["filename"])
        regions = image["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            _add_via_shape(entry, region["shape_attributes"], skipped)
        entries.append(entry)
    return entries


def _read_via_csv(path: Path, skipped: list[str]) -> list[dict]:
    entries: dict[str, dict] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            name = row.get("filename") or row["#filename"]
            entry = entries.setdefault(name, outline_entry(name))
            shape = parse_json(row["region_shape_attributes"] or "{}")
            if shape:
                _add_via_shape(entry, shape, skipped)
    return list(entries.values())


def _add_via_shape(entry: dict, shape: dict, skipped: list[str]) -> None:
    kind = shape["name"]
    if kind == "polygon" and len(shape["all_points_x"]) > 2:
        add_outline(entry, polygon(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))
    elif kind == "rect":
        x, y = shape["x"], shape["y"]
        add_outline(entry, rectangle(x, y, x + shape["width"], y + shape["height"]))
    elif kind == "circle":
        add_outline(entry, ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"]))
    elif kind == "ellipse":
        add_outline(entry, ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], shape.get("theta") or 0.0))
    else:
        skipped.append(f"a {kind}")


def _read_via3(content: dict, skipped: list[str]) -> list[dict]:
    """Version 3: shapes are lists that begin with their kind's number, of views, which show files."""
    entries = {key: outline_entry(file["fname"]) for key, file in content["file"].items()}
    for shape in content["metadata"].values():
        files = content["view"][str(shape["vid"])]["fid_list"]
        kind, *numbers = shape["xy"] or [0]
        entry = entries[str(files[0])]
        match VIA3_SHAPES.get(int(kind)):
            case "rect":
                x, y, width, height = numbers
                add_outline(entry, rectangle(x, y, x + width, y + height))
            case "circle":
                x, y, radius = numbers
                add_outline(entry, ellipse(x, y, radius, radius))
            case "ellipse":
                x, y, radius_x, radius_y = numbers
                add_outline(entry, ellipse(x, y, radius_x, radius_y))
            case "polygon":
                add_outline(entry, polygon(zip(numbers[::2], numbers[1::2], strict=True)))
            case _:
                skipped.append(f"a shape of kind {kind}")
    return list(entries.values())


# CVAT


def _read_cvat(path: Path, skipped: list[str]) -> list[dict]:
    root = parse_xml(path)
    if root.tag != "annotations" or root.find("image") is None:
        refuse_boxes([path])
        videos = root.find("track") is not None
        raise InputError(
            f"{path} is no export of CVAT's images" + (" but of a video" if videos else "") + ": choose CVAT for images"
        )
    readers: dict[str, Callable[[dict, dict], list | dict]] = {
        "polygon": lambda shape, _: polygon(_points(shape["points"])),
        "box": lambda shape, _: _cvat_box(shape),
        "ellipse": lambda shape, _: _cvat_ellipse(shape),
        "mask": _cvat_mask,
    }
    entries = []
    for image in root.iter("image"):
        entry = outline_entry(image.attrib["name"], image.get("height"), image.get("width"))
        for shape in image:
            if shape.get("label", "").lower() in BACKGROUND or shape.tag == "tag":
                continue
            if shape.tag in readers:
                add_outline(entry, readers[shape.tag](shape.attrib, entry))
            else:
                skipped.append(f"a {shape.tag}")
        entries.append(entry)
    return entries


def _points(text: str) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in text.split(";") if pair]
    return [(float(x), float(y)) for x, y in pairs]


def _cvat_box(shape: dict) -> list:
    x0, y0, x1, y1 = (float(shape[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
    turned = math.radians(float(shape.get("rotation") or 0))
    x, y, cosine, sine = (x0 + x1) / 2, (y0 + y1) / 2, math.cos(turned), math.sin(turned)
    corners = [(x0 - x, y0 - y), (x1 - x, y0 - y), (x1 - x, y1 - y), (x0 - x, y1 - y)]
    return polygon((x + dx * cosine - dy * sine, y + dx * sine + dy * cosine) for dx, dy in corners)


def _cvat_ellipse(shape: dict) -> list:
    x, y, radius_x, radius_y = (float(shape[name]) for name in ("cx", "cy", "rx", "ry"))
    return ellipse(x, y, radius_x, radius_y, math.radians(float(shape.get("rotation") or 0)))


def _cvat_mask(shape: dict, entry: dict) -> dict:
    """CVAT's run lengths go along the rows of the mask's own box, background first."""
    height, width = int(shape["height"]), int(shape["width"])
    counts = np.array([int(count) for count in shape["rle"].split(",") if count.strip()], np.int64)
    if not 0 < height <= entry["height"] or not 0 < width <= entry["width"]:
        raise ValueError(f"a mask is {height}x{width} px, its image {entry['height']}x{entry['width']}")
    if (counts < 0).any() or counts.sum() > height * width:
        raise ValueError(f"the run lengths of a mask sum to {counts.sum()}, not to {height}x{width}")
    # The background at the end may be left out.
    counts = np.append(counts, [0] * (len(counts) % 2) + [height * width - counts.sum()])
    mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    return placed_mask(mask, int(float(shape["left"])), int(float(shape["top"])), entry["height"], entry["width"])
