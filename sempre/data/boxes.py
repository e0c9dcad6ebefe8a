"""Boxes around particles, which outline none: Pascal VOC's XML and YOLO's text."""

import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from sempre.errors import InputError, one_input_error

BOX_FOLDERS = ("boxes", "labels", "annotations")
BOX_SUFFIXES = (".txt", ".xml")
MOST_BYTES = 1 << 26  # of a file of boxes


def read_boxes(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    """Boxes `[N, 4]` (x0, y0, x1, y1 in px) of a micrograph of `shape` (height, width in px; None where it is unknown).

    Raises:
        InputError: for a file that is missing or holds no boxes of YOLO or Pascal VOC, and for boxes of a micrograph of
            another size.
    """
    if path.suffix.lower() == ".xml":
        return _read_voc(path, shape)
    return _read_yolo(path, shape or (1, 1))


def _read_yolo(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Lines of a class, and x and y of the middle, width and height as shares of the micrograph's."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = np.array([[float(value) for value in line[1:5]] for line in lines]).reshape(-1, 4)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no list of boxes: {error}") from error
    if not ((rows >= 0) & (rows <= 1)).all():
        raise InputError(f"{path} has boxes that are no shares of the micrograph: give x, y, width, height from 0 to 1")
    if any(len(line) > 6 for line in lines):
        raise InputError(f"{path} has lines of more than a box, as YOLO's outlines have: export these as COCO")
    centres, sizes = rows[:, :2], rows[:, 2:]
    return np.hstack([centres - sizes / 2, centres + sizes / 2]) * np.tile(shape[::-1], 2)


def _read_voc(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    """Pascal VOC counts pixels from 1, and names the first and the last one of a box."""
    with one_input_error(lambda reason: f"{path} is no list of boxes: {reason}"):
        root = parse_xml(path)
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag}, not annotation as in Pascal VOC's")
        size = [_number(root, f"size/{side}") for side in ("height", "width")]
        if shape is not None and all(side > 0 for side in size) and tuple(map(int, size)) != tuple(shape):
            raise InputError(
                f"{path} is of a micrograph of {size[0]:g}x{size[1]:g} px, but that beside it is {shape[0]}x{shape[1]} "
                "px: boxes must be drawn on the same pixels"
            )
        sides = ("xmin", "ymin", "xmax", "ymax")
        rows = [[_number(one, f"bndbox/{side}") for side in sides] for one in root.iter("object")]
        boxes = np.array(rows).reshape(-1, 4)
        if not np.isfinite(boxes).all():
            raise ValueError("an object has no box with xmin, ymin, xmax and ymax")
        return boxes - [1, 1, 0, 0]


def _number(element: ElementTree.Element, place: str) -> float:
    """The number that stands at a place below an element; nan where there is none."""
    return float(element.findtext(place) or math.nan)


def refuse_boxes(files: Iterable[Path]) -> None:
    """Raise an InputError that names the first of the files that holds boxes."""
    for file in files:
        suffix = file.suffix.lower()
        if suffix not in BOX_SUFFIXES or not file.is_file() or file.stat().st_size > MOST_BYTES:
            continue
        boxes = 0
        with suppress(InputError):
            boxes = len(read_boxes(file, None))
        if boxes:
            program = "Pascal VOC" if suffix == ".xml" else "YOLO"
            raise InputError(
                f"{file} holds {boxes} box{'es' * (boxes > 1)} of {program}, which outline no "
                "particle: outline the particles, or make ellipses from the boxes of round ones (data/boxes.py)"
            )


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file that declares no type or entity: expanding these can take any amount of memory.

    Raises:
        InputError: for one that does.
    """
    content = path.read_bytes()

    def refuse(*_: object) -> None:
        raise InputError(f"{path} declares a document type, which exports of labels do not: export it again")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(content, True)
    return ElementTree.fromstring(content)
