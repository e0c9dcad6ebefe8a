"""Size and shape of each particle of a label image."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from sempre.files import whole_or_absent
from sempre.images import PixelSize, as_pixel_size
from sempre.segmentation.neighbours import aggregates, fractal_dimensions, gaps
from sempre.segmentation.shapes import calliper_widths, cross, hull_of, outline, perimeters

PIXEL_INERTIA = 1 / 12  # second moment of a pixel as a unit square, px²
BAR_EDGE = 2  # px: within so many of an information bar a particle touches it, for the bar's edge may be blurred


@dataclass(frozen=True)
class Particle:
    """One particle; lengths in px, areas in px². `docs/sizes.md` gives the formula of each measure.

    `x`, `y` are the centroid in the convention of ImageJ: the first pixel's centre is (0.5, 0.5). Where pixels are not
    square, measures without a unit are those of the particle's true shape, and the lengths that end in `_nm` are set,
    since they do not follow from those in px. Otherwise these are None.
    """

    id: int
    score: float
    x: float
    y: float
    area: float
    equivalent_diameter: float  # of the circle of equal area
    feret_max: float
    feret_min: float
    circularity: float  # 4 pi area / perimeter²: 1 of a disc, and a little more where the pixel grid's noise has it so
    aspect_ratio: float  # of the ellipse of equal second moments, at least 1
    touches_border: bool  # the micrograph shows only a part of it: its border or an information bar cuts it
    feret_max_nm: float | None = None
    feret_min_nm: float | None = None
    box_width: float = 0.0
    box_height: float = 0.0
    perimeter: float = 0.0
    perimeter_nm: float | None = None
    ellipse_major: float = 0.0  # axes, not semi-axes, of the ellipse of equal second moments
    ellipse_minor: float = 0.0
    ellipse_major_nm: float | None = None
    ellipse_minor_nm: float | None = None
    eccentricity: float = 0.0
    solidity: float = 1.0  # area / area of the convex hull
    convexity: float = 1.0  # perimeter of the convex hull / perimeter
    roundness: float = 1.0  # 4 area / (pi feret_max²)
    feret_ratio: float = 1.0  # feret_min / feret_max
    mean_grey: float | None = None  # None where the grey values were not given
    grey_deviation: float | None = None
    distance_to_next: float | None = None  # from outline to outline, 0 where they touch; None of a lone particle
    distance_to_next_nm: float | None = None
    aggregate: int = 1  # particles that touch have the same number
    aggregate_particles: int = 1  # how many have it
    fractal_dimension: float | None = None  # of the aggregate; None of one of few particles
    probability: float | None = None  # that it is a particle; None without a calibration, as are the next two
    equivalent_diameter_low: float | None = None  # with a probability of 90 % the diameter lies between these
    equivalent_diameter_high: float | None = None


LENGTHS = (
    "x",
    "y",
    "equivalent_diameter",
    "equivalent_diameter_low",
    "equivalent_diameter_high",
    "feret_max",
    "feret_min",
    "box_width",
    "box_height",
    "perimeter",
    "ellipse_major",
    "ellipse_minor",
    "distance_to_next",
)
# Those that pixels which are not square change by more than a factor: they are measured in nm on their own then.
MEASURED_IN_NM = ("feret_max", "feret_min", "perimeter", "ellipse_major", "ellipse_minor", "distance_to_next")
# Those that change with what lies around a particle.
OF_NEIGHBOURS = (
    "distance_to_next",
    "distance_to_next_nm",
    "aggregate",
    "aggregate_particles",
    "fractal_dimension",
)
ALONG_X, ALONG_Y = ("x", "box_width"), ("y", "box_height")
SHAPES = (
    "circularity",
    "aspect_ratio",
    "eccentricity",
    "solidity",
    "convexity",
    "roundness",
    "feret_ratio",
    "fractal_dimension",
)


def measure_particles(
    labels: np.ndarray,
    scores: np.ndarray,
    pixel_size_nm: float | tuple[float, float] | None = None,
    field: tuple[int, int] | None = None,
    pixels: np.ndarray | None = None,
) -> list[Particle]:
    """Measure the instances 1 … N of a label image `[H, W]`, whose scores are `[N]`; each must have a pixel.

    Args:
        pixel_size_nm: nm per px, or a pair, x and y, which makes a difference where pixels are not square.
        field: the first row of the micrograph's field and the row behind its last: the rest are information bars.
        pixels: the micrograph's grey values `[H, W]`; without them no grey value is measured.
    """
    size = as_pixel_size(pixel_size_nm) or PixelSize(1.0, 1.0)
    top, bottom = field or (0, len(labels))
    top += BAR_EDGE * (top > 0)
    bottom -= BAR_EDGE * (bottom < len(labels))
    masks = _Masks(labels, len(scores))
    measured = masks.measure(1.0)
    true = measured if size.is_square else masks.measure(size.y / size.x)  # in widths of a pixel
    numbers, members = aggregates(masks.crossings.touching, len(scores))
    particles = []
    for index, (x0, y0, x1, y1) in enumerate(masks.boxes.tolist()):
        lengths = {name: float(measured[name][index]) for name in MEASURED_IN_NM}
        shapes = {name: float(true[name][index]) for name in SHAPES}
        in_nm = {} if size.is_square else {f"{name}_nm": size.x * float(true[name][index]) for name in MEASURED_IN_NM}
        known = {name: value for name, value in (lengths | shapes | in_nm).items() if not np.isnan(value)}
        grey = None if pixels is None else masks.values(pixels, index).astype(float)
        particles.append(
            Particle(
                id=index + 1,
                score=float(scores[index]),
                x=float(masks.centres[index, 0]) + 0.5,
                y=float(masks.centres[index, 1]) + 0.5,
                area=float(masks.areas[index]),
                equivalent_diameter=float(np.sqrt(4 * masks.areas[index] / np.pi)),
                touches_border=y0 <= top or y1 >= bottom - 1 or x0 == 0 or x1 == labels.shape[1] - 1,
                box_width=x1 - x0 + 1.0,
                box_height=y1 - y0 + 1.0,
                mean_grey=None if grey is None else float(grey.mean()),
                grey_deviation=None if grey is None else float(grey.std()),
                aggregate=int(numbers[index]),
                aggregate_particles=int(members[index]),
                **known,
            )
        )
    return particles


def among_themselves(
    particles: list[Particle], labels: np.ndarray, pixel_size_nm: float | tuple[float, float] | None = None
) -> list[Particle]:
    """Some of a micrograph's particles, with the distances and aggregates that they have without the others.

    `labels` int32 `[H, W]` holds these alone, numbered from 1 as they are listed.
    """
    scores = np.array([particle.score for particle in particles])
    again = measure_particles(labels, scores, pixel_size_nm)
    return [
        replace(particle, **{name: getattr(measured, name) for name in OF_NEIGHBOURS})
        for particle, measured in zip(particles, again, strict=True)
    ]


class _Masks:
    """What is counted once of the instances 1 to `count` of a label image, whatever the shape of its pixels."""

    def __init__(self, labels: np.ndarray, count: int):
        self.labels, self.crossings = labels, cross(labels, count)
        self.places = ndimage.find_objects(labels, max_label=count)
        self.areas, self.hull_areas = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.hulls_entered = self.crossings.entered.copy()
        self.boxes = np.zeros((count, 4), np.int64)  # x0, y0, x1, y1, the last pixels among them
        self.centres, self.covariances = np.zeros((count, 2)), np.zeros((count, 2, 2))
        self.outlines, self.vertices = [], []
        for index in range(count):
            mask = self.mask(index)
            rows, columns = self.places[index]
            y, x = np.nonzero(mask)
            corner = np.array([columns.start, rows.start])
            self.boxes[index] = *corner, columns.stop - 1, rows.stop - 1
            self.areas[index] = len(x)
            centre = np.array([x.mean(), y.mean()])
            self.centres[index] = corner + centre
            offsets = np.stack([x, y]) - centre[:, None]
            self.covariances[index] = offsets @ offsets.T / len(x)
            self.outlines.append(corner + outline(mask))
            hull = hull_of(mask)
            self.vertices.append(hull.vertices)
            self.hull_areas[index] = hull.area
            if hull.area > len(x):
                self.hulls_entered[:, index] = cross(hull.mask().astype(np.int32), 1).entered[:, 0]

    def mask(self, index: int) -> np.ndarray:
        """Bool `[h, w]`, in the particle's box."""
        return self.labels[self.places[index]] == index + 1

    def values(self, pixels: np.ndarray, index: int) -> np.ndarray:
        """What `pixels` `[H, W]` hold where the particle lies."""
        return pixels[self.places[index]][self.mask(index)]

    def measure(self, tall: float) -> dict[str, np.ndarray]:
        """Every measure of `MEASURED_IN_NM` and `SHAPES` `[N]`, with pixels of width 1 and height `tall`."""
        areas, true = self.areas * tall, np.array([1.0, tall])
        feret = np.array([calliper_widths(vertices, tall) for vertices in self.vertices]).reshape(-1, 2)
        covariances = self.covariances * np.outer(true, true) + PIXEL_INERTIA * np.diag(true**2)
        minor, major = (4 * np.sqrt(np.linalg.eigvalsh(covariances))).T
        around = perimeters(self.crossings.entered, self.areas, tall)
        hull = perimeters(self.hulls_entered, self.hull_areas, tall)
        touching = self.crossings.touching
        numbers, _ = aggregates(touching, len(areas))
        inertia = np.trace(covariances, axis1=1, axis2=2)
        return {
            "feret_max": feret[:, 0],
            "feret_min": feret[:, 1],
            "perimeter": around,
            "ellipse_major": major,
            "ellipse_minor": minor,
            "distance_to_next": gaps(self.outlines, self.boxes, touching, tall),
            "circularity": 4 * np.pi * areas / around**2,
            "aspect_ratio": major / minor,
            "eccentricity": np.sqrt(np.maximum(1 - (minor / major) ** 2, 0)),
            "solidity": self.areas / self.hull_areas,
            "convexity": np.minimum(hull / around, 1),  # above 1 by the grid's noise alone
            "roundness": 4 * areas / (np.pi * feret[:, 0] ** 2),
            "feret_ratio": feret[:, 1] / feret[:, 0],
            "fractal_dimension": fractal_dimensions(numbers, self.areas, self.centres, inertia, tall),
        }


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
    """The columns of one particle, the unit at the end of each name; empty where nothing was measured.

    Where pixels are not square, the particle must have been measured with their size, or lengths in nm are missing.
    """
    row = {"id": str(particle.id), "score": f"{particle.score:.4f}", "probability": _text(particle.probability, ".4f")}
    row |= {f"{name}_px": _text(getattr(particle, name)) for name in LENGTHS}
    row["area_px2"] = f"{particle.area:.8g}"
    size = as_pixel_size(pixel_size_nm)
    if size is not None:
        row |= {f"{name}_nm": _text(_length_nm(particle, name, size)) for name in LENGTHS}
        row["area_nm2"] = f"{particle.area * size.x * size.y:.8g}"
    row |= {name: _text(getattr(particle, name), ".4f") for name in SHAPES}
    row |= {name: _text(getattr(particle, name)) for name in ("mean_grey", "grey_deviation")}
    row |= {"aggregate": str(particle.aggregate), "aggregate_particles": str(particle.aggregate_particles)}
    row["touches_border"] = str(int(particle.touches_border))
    return row


def _text(value: float | None, form: str = ".6g") -> str:
    return "" if value is None else format(value, form)


def _length_nm(particle: Particle, name: str, size: PixelSize) -> float | None:
    """One of a particle's `LENGTHS` in nm."""
    length = getattr(particle, name)
    if name in MEASURED_IN_NM and not size.is_square:
        return getattr(particle, f"{name}_nm")
    if length is None:
        return None
    if name in MEASURED_IN_NM or name in ALONG_X:
        return length * size.x
    return length * (size.y if name in ALONG_Y else size.mean)
