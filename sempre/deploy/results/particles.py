"""Size and shape of each particle of a label image."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import perimeter

from sempre.files import whole_or_absent

PIXEL_INERTIA = 1 / 12  # second moment of a pixel as a unit square, px²


@dataclass(frozen=True)
class Particle:
    """One particle; lengths in px, areas in px².

    `x`, `y` are the centroid in the convention of ImageJ: the first pixel's centre is (0.5, 0.5).
    """

    id: int
    score: float
    x: float
    y: float
    area: float
    equivalent_diameter: float  # of the circle of equal area
    feret_max: float
    feret_min: float
    circularity: float  # 4 pi area / perimeter², at most 1; about 0.9 for a disc on the pixel grid
    aspect_ratio: float  # of the ellipse of equal second moments, at least 1
    touches_border: bool  # the micrograph shows only a part of it


LENGTHS = ("x", "y", "equivalent_diameter", "feret_max", "feret_min")


def measure_particles(labels: np.ndarray, scores: np.ndarray) -> list[Particle]:
    """Measure the instances 1 … N of a label image `[H, W]`, whose scores are `[N]`; each must have a pixel."""
    particles = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels, max_label=len(scores))):
        mask = labels[rows, columns] == index + 1
        y, x = np.nonzero(mask)
        area = len(x)
        covariance = np.cov(np.stack([x, y]), bias=True) + PIXEL_INERTIA * np.eye(2)
        minor, major = np.sqrt(np.linalg.eigvalsh(covariance))
        feret_max, feret_min = feret_diameters(mask)
        boundary = perimeter(mask)  # of the line through the border pixels' centres, 0 for a single pixel
        particles.append(
            Particle(
                id=index + 1,
                score=float(scores[index]),
                x=columns.start + float(x.mean()) + 0.5,
                y=rows.start + float(y.mean()) + 0.5,
                area=float(area),
                equivalent_diameter=float(np.sqrt(4 * area / np.pi)),
                feret_max=feret_max,
                feret_min=feret_min,
                circularity=float(min(1.0, 4 * np.pi * area / boundary**2)) if boundary else 1.0,
                aspect_ratio=float(major / minor),
                touches_border=any(
                    side.start == 0 or side.stop == length
                    for side, length in zip((rows, columns), labels.shape, strict=True)
                ),
            )
        )
    return particles


def feret_diameters(mask: np.ndarray) -> tuple[float, float]:
    """Largest and smallest calliper width in px of a bool mask `[h, w]`, exact for its pixels as unit squares.

    The widest pair of vertices of the convex hull is the first; the smallest width is met with one jaw flat on an edge
    of the hull (Toussaint, "Solving geometric problems with the rotating calipers", MELECON 1983).
    """
    corners = pixel_corners(mask)
    vertices = corners[ConvexHull(corners).vertices].astype(np.float64)  # in order around the hull
    edges = np.roll(vertices, -1, axis=0) - vertices
    offsets = vertices[None] - vertices[:, None]
    heights = np.abs(edges[:, :1] * offsets[..., 1] - edges[:, 1:] * offsets[..., 0]).max(axis=1)
    largest = np.sqrt((offsets**2).sum(axis=2).max())
    return float(largest), float((heights / np.hypot(*edges.T)).min())


def solidity(mask: np.ndarray) -> float:
    """The area of a bool mask `[h, w]` over that of its convex hull, both of its pixels as unit squares; at most 1."""
    return float(np.count_nonzero(mask) / ConvexHull(pixel_corners(mask)).volume)


def pixel_corners(mask: np.ndarray) -> np.ndarray:
    """The outermost corners (x, y) `[K, 2]`, integers, of every row of pixels, by rising x, then y."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    end = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    x = np.concatenate([first, first, end, end])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    # One number a corner: to sort the rows of an array takes longer than all the rest.
    corners = np.unique(x * (len(mask) + 1) + y)
    return np.stack(np.divmod(corners, len(mask) + 1), axis=1)


def write_csv(path: str | Path, particles: list[Particle], pixel_size_nm: float | None = None) -> None:
    """Write a row for each particle, in px and, if the pixel size is known, in nm too. Whole or absent."""
    rows = [particle_row(particle, pixel_size_nm) for particle in particles]
    nothing = Particle(0, *[0.0] * 9, touches_border=False)
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(particle_row(nothing, pixel_size_nm)))
        writer.writeheader()
        writer.writerows(rows)


def particle_row(particle: Particle, pixel_size_nm: float | None) -> dict[str, str]:
    """The columns of one particle, the unit at the end of each name."""
    row = {"id": str(particle.id), "score": f"{particle.score:.4f}"}
    for unit, scale in (("px", 1.0), ("nm", pixel_size_nm)):
        if scale is not None:
            row |= {f"{name}_{unit}": f"{getattr(particle, name) * scale:.6g}" for name in LENGTHS}
            row[f"area_{unit}2"] = f"{particle.area * scale**2:.8g}"
    row["circularity"] = f"{particle.circularity:.4f}"
    row["aspect_ratio"] = f"{particle.aspect_ratio:.4f}"
    row["touches_border"] = str(int(particle.touches_border))
    return row
