"""Size and shape of each particle of a label image."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import perimeter

from sempre.files import whole_or_absent
from sempre.images import PixelSize, as_pixel_size

PIXEL_INERTIA = 1 / 12  # second moment of a pixel as a unit square, px²
BAR_EDGE = 2  # px: within so many of an information bar a particle touches it, for the bar's edge may be blurred


@dataclass(frozen=True)
class Particle:
    """One particle; lengths in px, areas in px².

    `x`, `y` are the centroid in the convention of ImageJ: the first pixel's centre is (0.5, 0.5). Where pixels are not
    square, `circularity` and `aspect_ratio` are those of the particle's true shape, and `feret_max_nm` and
    `feret_min_nm` are its calliper widths, which do not follow from those in px; else these two are None.
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
    touches_border: bool  # the micrograph shows only a part of it: its border or an information bar cuts it
    feret_max_nm: float | None = None
    feret_min_nm: float | None = None


LENGTHS = ("x", "y", "equivalent_diameter", "feret_max", "feret_min")


def measure_particles(
    labels: np.ndarray,
    scores: np.ndarray,
    pixel_size_nm: float | tuple[float, float] | None = None,
    field: tuple[int, int] | None = None,
) -> list[Particle]:
    """Measure the instances 1 … N of a label image `[H, W]`, whose scores are `[N]`; each must have a pixel.

    Args:
        pixel_size_nm: nm per px, or a pair, x and y, which makes a difference where pixels are not square.
        field: the first row of the micrograph's field and the row behind its last: the rest are information bars.
    """
    size = as_pixel_size(pixel_size_nm) or PixelSize(1.0, 1.0)
    tall, stretched = size.y / size.x, not size.is_square  # height of a pixel over its width
    top, bottom = field or (0, len(labels))
    top += BAR_EDGE * (top > 0)
    bottom -= BAR_EDGE * (bottom < len(labels))
    particles = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels, max_label=len(scores))):
        mask = labels[rows, columns] == index + 1
        y, x = np.nonzero(mask)
        area = len(x)
        covariance = np.cov(np.stack([x, tall * y]), bias=True) + PIXEL_INERTIA * np.diag([1.0, tall**2])
        minor, major = np.sqrt(np.linalg.eigvalsh(covariance))
        feret_max, feret_min = feret_diameters(mask)
        widths = [size.x * width for width in feret_diameters(mask, tall)] if stretched else (None, None)
        boundary = stretched_perimeter(mask, tall) if stretched else perimeter(mask)
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
                # The boundary runs through the border pixels' centres and is 0 for a single pixel.
                circularity=float(min(1.0, 4 * np.pi * area * tall / boundary**2)) if boundary else 1.0,
                aspect_ratio=float(major / minor),
                touches_border=rows.start <= top
                or rows.stop >= bottom
                or columns.start == 0
                or columns.stop == labels.shape[1],
                feret_max_nm=widths[0],
                feret_min_nm=widths[1],
            )
        )
    return particles


def feret_diameters(mask: np.ndarray, tall: float = 1.0) -> tuple[float, float]:
    """Largest and smallest calliper width of a bool mask `[h, w]`, in widths of a pixel, exact for its pixels as
    rectangles of width 1 and height `tall`.

    The widest pair of vertices of the convex hull is the first; the smallest width is met with one jaw flat on an edge
    of the hull (Toussaint, "Solving geometric problems with the rotating calipers", MELECON 1983).
    """
    corners = pixel_corners(mask)
    vertices = corners[ConvexHull(corners).vertices] * (1.0, tall)  # in order around the hull
    edges = np.roll(vertices, -1, axis=0) - vertices
    offsets = vertices[None] - vertices[:, None]
    heights = np.abs(edges[:, :1] * offsets[..., 1] - edges[:, 1:] * offsets[..., 0]).max(axis=1)
    largest = np.sqrt((offsets**2).sum(axis=2).max())
    return float(largest), float((heights / np.hypot(*edges.T)).min())


def stretched_perimeter(mask: np.ndarray, tall: float) -> float:
    """Length of the line through the border pixels' centres of a bool mask `[h, w]`, in widths of a pixel, where pixels
    are `tall` times as high as wide.

    It is `skimage.measure.perimeter` (Benkrid and Crookes, "Design and FPGA implementation of a perimeter estimator",
    2000) with steps of different lengths: a border pixel counts for half of the steps to its two neighbours. The line
    follows the grid, so the circularity of a disc falls from 0.9 to 0.82 where pixels are three times as wide as high.
    """
    border = np.pad(mask & ~ndimage.binary_erosion(mask, border_value=0), 1).astype(np.int32)
    beside = border[1:-1, :-2] + border[1:-1, 2:]
    above = border[:-2, 1:-1] + border[2:, 1:-1]
    corner = border[:-2, :-2] + border[:-2, 2:] + border[2:, :-2] + border[2:, 2:]
    straight = beside + above
    step = (beside + tall * above) / np.maximum(straight, 1)
    diagonal = np.hypot(1.0, tall)
    length = np.select(
        [
            np.isin(straight, (2, 3)) & (corner <= 2),
            ((straight == 0) & (corner == 2)) | ((straight == 1) & (corner == 3)),
            (straight == 1) & np.isin(corner, (1, 2)),
        ],
        [step, diagonal, (step + diagonal) / 2],
        0.0,
    )
    return float(length[border[1:-1, 1:-1] > 0].sum())


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


def write_csv(
    path: str | Path, particles: list[Particle], pixel_size_nm: float | tuple[float, float] | None = None
) -> None:
    """Write a row for each particle, in px and, if the pixel size is known, in nm too. Whole or absent."""
    rows = [particle_row(particle, pixel_size_nm) for particle in particles]
    nothing = Particle(0, *[0.0] * 9, touches_border=False)
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(particle_row(nothing, pixel_size_nm)))
        writer.writeheader()
        writer.writerows(rows)


def particle_row(particle: Particle, pixel_size_nm: float | tuple[float, float] | None) -> dict[str, str]:
    """The columns of one particle, the unit at the end of each name.

    Where pixels are not square, the particle must have been measured with their size, or it has no Feret in nm.
    """
    row = {"id": str(particle.id), "score": f"{particle.score:.4f}"}
    row |= {f"{name}_px": f"{getattr(particle, name):.6g}" for name in LENGTHS}
    row["area_px2"] = f"{particle.area:.8g}"
    size = as_pixel_size(pixel_size_nm)
    if size is not None:
        lengths = zip(LENGTHS, _lengths_nm(particle, size), strict=True)
        row |= {f"{name}_nm": "" if length is None else f"{length:.6g}" for name, length in lengths}
        row["area_nm2"] = f"{particle.area * size.x * size.y:.8g}"
    row["circularity"] = f"{particle.circularity:.4f}"
    row["aspect_ratio"] = f"{particle.aspect_ratio:.4f}"
    row["touches_border"] = str(int(particle.touches_border))
    return row


def _lengths_nm(particle: Particle, size: PixelSize) -> tuple[float | None, ...]:
    """A particle's `LENGTHS` in nm."""
    if size.is_square:
        feret = particle.feret_max * size.x, particle.feret_min * size.x
    else:
        feret = particle.feret_max_nm, particle.feret_min_nm
    return particle.x * size.x, particle.y * size.y, particle.equivalent_diameter * size.mean, *feret
