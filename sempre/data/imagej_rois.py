"""Outlines of ImageJ's ROI manager, `.roi` and `.zip`, as an entry of COCO."""

import math
import zipfile
from pathlib import Path

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from sempre.data.outlines import add_outline, ellipse, outline_entry, polygon, rectangle, say_skipped
from sempre.errors import InputError

MOST_BYTES, MOST_ROIS = 1 << 28, 1 << 20  # unpacked, of an archive of ROIs
AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
CURVE_STEPS = 16  # lines that a curve of a composite ROI is drawn with


def read_rois(path: Path) -> dict:
    """The entry of ROIs, which do not say how large their micrograph is."""
    entry, skipped, positions = outline_entry(path.stem), [], set()
    for roi in _rois(path):
        if roi.position:
            positions.add(roi.position)
        if roi.composite and roi.multi_coordinates is not None:
            rings = _rings(roi.multi_coordinates.tolist())
            add_outline(entry, {"even_odd": [ring for ring in rings if len(ring) >= 6]})
        elif roi.roitype not in AREAS:
            skipped.append(f"a {roi.roitype.name.lower()}")
        elif roi.roitype == ROI_TYPE.OVAL:
            x0, y0, x1, y1 = _bounds(roi)
            add_outline(entry, ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2))
        elif roi.roitype == ROI_TYPE.RECT:
            add_outline(entry, rectangle(*_bounds(roi)))
        else:
            points = np.asarray(roi.coordinates(), float)
            if len(points) > 2:
                add_outline(entry, polygon(points.tolist()))
            else:
                skipped.append(f"a polygon of {len(points)} points")
    if len(positions) > 1:
        raise InputError(f"{path} holds ROIs of {len(positions)} slices of a stack: save those of each slice apart")
    if not entry["segmentations"]:
        raise InputError(f"{path} holds no ROI with an area")
    say_skipped(path, skipped)
    return entry


def _rois(path: Path) -> list[ImagejRoi]:
    if path.suffix.lower() == ".roi":
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        return [ImagejRoi.frombytes(path.read_bytes())]
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.lower().endswith(".roi")]
        if len(members) > MOST_ROIS or sum(member.file_size for member in members) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
        return [ImagejRoi.frombytes(archive.read(member)) for member in members]


def _bounds(roi: ImagejRoi) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 in px."""
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    return roi.left, roi.top, roi.right, roi.bottom


def _rings(path: list[float]) -> list[list[float]]:
    """The closed polygons x0, y0, x1, y1, … of a composite's path, of java.awt.geom.PathIterator's segments."""
    rings: list[list[float]] = []
    numbers = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}  # move to, line to, quadratic and cubic curve, close
    at = 0
    while at < len(path):
        kind = int(path[at])
        if kind not in numbers or at + numbers[kind] >= len(path):
            raise ValueError(f"a composite has the segment {kind}")
        points = np.array(path[at + 1 : at + 1 + numbers[kind]]).reshape(-1, 2)
        at += 1 + numbers[kind]
        if kind == 0:
            rings.append(points.ravel().tolist())
        elif kind != 4:
            points = np.concatenate([[rings[-1][-2:]], points])
            degree = len(points) - 1
            shares = np.linspace(0, 1, CURVE_STEPS + 1)[1:] if degree > 1 else np.ones(1)
            weights = [math.comb(degree, k) * shares**k * (1 - shares) ** (degree - k) for k in range(degree + 1)]
            rings[-1] += (np.array(weights).T @ points).ravel().tolist()
    return rings
