"""Particles as ImageJ regions of interest, along the edges of their pixels: ImageJ finds exactly the same areas."""

import zipfile
from pathlib import Path

import numpy as np
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi
from scipy import ndimage

from sempre.files import whole_or_absent

READABLE = 0o644 << 16
LARGEST = 60_535  # px: ImageJ takes larger 16-bit numbers for negative ones, and writes such coordinates as floats too
SUBPIXEL_VERSION = 222  # of the format, from which on ImageJ reads floats
MOVE_TO, LINE_TO, CLOSE = 0.0, 1.0, 4.0  # java.awt.geom.PathIterator's segments, of which ImageJ's composites consist


def write_rois(path: str | Path, labels: np.ndarray) -> None:
    """Write a ZIP for ImageJ's ROI manager with one ROI for each instance of a label image `[H, W]`, named by its id.

    An instance of one piece is a polygon; one of several pieces, or with holes, a composite. Whole or absent.
    """
    with whole_or_absent(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, found in enumerate(ndimage.find_objects(labels)):
            if found is not None:
                name = f"{index + 1:05d}"
                corner = np.array([found[1].start, found[0].start])
                loops = [corner + loop for loop in boundary_loops(labels[found] == index + 1)]
                entry = zipfile.ZipInfo(f"{name}.roi")  # of no date, so that the same particles give the same bytes
                entry.external_attr = READABLE
                archive.writestr(entry, roi(loops, name).tobytes(), zipfile.ZIP_DEFLATED)


def roi(loops: list[np.ndarray], name: str) -> ImagejRoi:
    """The region enclosed by closed polygons of corners (x, y) `[K, 2]` in px, by the even-odd rule."""
    corners = np.concatenate(loops)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    bounds = {"left": left, "top": top, "right": right, "bottom": bottom}
    if len(loops) == 1:
        polygon = ImagejRoi(
            roitype=ROI_TYPE.TRACED,
            name=name,
            n_coordinates=len(corners),
            integer_coordinates=(corners - (left, top)).astype(np.int32),
            **bounds,
        )
        if max(right, bottom) > LARGEST:
            polygon.version = SUBPIXEL_VERSION
            polygon.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            polygon.subpixel_coordinates = corners.astype(np.float32)  # which holds whole numbers up to 2^24
        return polygon
    path: list[float] = []
    for loop in loops:
        for corner, (x, y) in enumerate(loop.tolist()):
            path += [LINE_TO if corner else MOVE_TO, x, y]
        path.append(CLOSE)
    segments = np.array(path, dtype=np.float32)
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, name=name, shape_roi_size=len(segments), multi_coordinates=segments, **bounds
    )


def boundary_loops(mask: np.ndarray) -> list[np.ndarray]:
    """Closed polygons of pixel corners (x, y) `[K, 2]` around the pieces and holes of a bool mask `[h, w]`.

    Every edge between a pixel inside and one outside is walked once, with the inside on the right as the image is
    shown (y down). Where two pixels touch at a corner only, the walk turns right: pieces are 4-connected.
    """
    leaving = _edges(mask)
    walked: set[tuple[int, int, tuple[int, int]]] = set()
    loops = []
    for (x0, y0), steps in leaving.items():
        for step in steps:
            edge = (x0, y0, step)
            corners = []
            while edge not in walked:
                walked.add(edge)
                x, y, (dx, dy) = edge
                x, y = x + dx, y + dy
                turns = leaving[x, y]
                turn = turns[0] if len(turns) == 1 else (-dy, dx)
                if turn != (dx, dy):
                    corners.append((x, y))
                edge = (x, y, turn)
            if corners:
                loops.append(np.array(corners))
    return loops


def _edges(mask: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each corner (x, y) the directions of the one or two edges that leave it, with the inside on their right."""
    padded = np.pad(mask, 1)
    above, below = padded[:-1, 1:], padded[1:, 1:]  # of the line from corner (x, y) to (x + 1, y)
    before, after = padded[1:, :-1], padded[1:, 1:]  # of the line from corner (x, y) to (x, y + 1)
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for edges, shift, step in (
        (below & ~above, (0, 0), (1, 0)),
        (above & ~below, (1, 0), (-1, 0)),
        (before & ~after, (0, 0), (0, 1)),
        (after & ~before, (0, 1), (0, -1)),
    ):
        rows, columns = np.nonzero(edges)
        for x, y in zip((columns + shift[0]).tolist(), (rows + shift[1]).tolist(), strict=True):
            leaving.setdefault((x, y), []).append(step)
    return leaving
