"""Objects of a volume: instances of its slices joined, written as a label volume, and measured."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.files import whole_or_absent
from sempre.images import read_labels
from sempre.images.volume import Volume
from sempre.images.write import write_label_volume


def link_slices(slices: Iterable[np.ndarray], least_iou: float = 0.25) -> list[np.ndarray]:
    """For each slice the objects int64 `[N + 1]` that its instances 0 to N belong to; 0 is background.

    An instance goes on as the one of the next slice that it overlaps most, if that overlaps none more and their IoU is
    at least `least_iou` (Stringer et al., "Cellpose", Nature Methods 18, 2021, stitch so with 0.25). Objects neither
    branch nor skip a slice. Two slices are in memory at a time.

    Args:
        slices: label images int `[H, W]`, from the first slice to the last, ids 0 to N.
    """
    objects, number, before = [], 0, None
    for labels in slices:
        count = int(labels.max(initial=0))
        found = np.zeros(count + 1, np.int64)
        if before is not None and count and before.max(initial=0):
            first, second = _same(before, labels, least_iou)
            found[second] = objects[-1][first]
        fresh = np.flatnonzero(found[1:] == 0) + 1
        found[fresh] = np.arange(number + 1, number + 1 + len(fresh))
        number += len(fresh)
        objects.append(found)
        before = labels
    return objects


def _same(before: np.ndarray, labels: np.ndarray, least_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Ids of one slice and those of the next that they go on as, `[K]` each."""
    overlap = (before > 0) & (labels > 0)
    width = int(labels.max()) + 1
    pairs, shared = np.unique(before[overlap].astype(np.int64) * width + labels[overlap], return_counts=True)
    first, second = pairs // width, pairs % width
    areas = [np.bincount(image.ravel()) for image in (before, labels)]
    ious = shared / (areas[0][first] + areas[1][second] - shared)
    # Of each side's overlaps the largest; equal ones are decided by the order of the ids.
    best = [np.zeros(len(pairs), bool), np.zeros(len(pairs), bool)]
    order = np.argsort(-ious, kind="stable")
    for kept, ids in zip(best, (first, second), strict=True):
        kept[order[np.unique(ids[order], return_index=True)[1]]] = True
    same = best[0] & best[1] & (ious >= least_iou)
    return first[same], second[same]


# To the neighbours of a voxel, one of each pair of opposite ones: z, y, x.
STEPS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
DIRECTIONS = 20_000  # points on the sphere


@dataclass(frozen=True)
class Solids:
    """Of objects 1 to N, by position `[N]`: their `voxels`, `volume` and `surface` in units of the voxel's sides, the
    `first` and `last` slice that shows them, counted from 0, and whether they `touch` the volume's border."""

    voxels: np.ndarray
    volume: np.ndarray
    surface: np.ndarray
    first: np.ndarray
    last: np.ndarray
    touches: np.ndarray


def measure_solids(slices: Iterable[np.ndarray], count: int, voxel: tuple[float, float, float]) -> Solids:
    """Measure objects of a label volume; two slices are in memory at a time.

    The surface is Crofton's: lines through the voxels' centres along the 13 directions to their neighbours cut it so
    often, each direction weighing as the share of all directions that it is nearest to (Lehmann and Legland, "Efficient
    N-dimensional surface estimation using Crofton formula and run-length encoding", Insight Journal, 2012). Where the
    volume's border cuts an object the cut is no surface.

    Args:
        slices: label images int `[H, W]`, from the first slice to the last, ids 0 to `count`.
        voxel: its sides along z, y and x.
    """
    sides = np.array(voxel)
    steps = np.array(STEPS)
    weights = 2 * sides.prod() * direction_shares(steps * sides) / np.linalg.norm(steps * sides, axis=1)
    voxels, surface = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    first, last = np.full(count + 1, -1), np.full(count + 1, -1)
    touches = np.zeros(count + 1, bool)
    before = None
    for number, labels in enumerate(slices):
        counts = np.bincount(labels.ravel(), minlength=count + 1)
        voxels += counts
        shown = counts > 0
        last[shown] = number
        first[shown & (first < 0)] = number
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            touches[edge] = True
        if before is None:
            touches[shown] = True
        for (below, *step), weight in zip(STEPS, weights, strict=True):
            start = before if below else labels
            if start is not None:
                surface += weight * _cuts(start, labels, step, count)
        before = labels
    if before is not None:
        touches[before.ravel()] = True
    return Solids(*(values[1:] for values in (voxels, voxels * sides.prod(), surface, first, last, touches)))


def direction_shares(steps: np.ndarray) -> np.ndarray:
    """Of all directions the share `[K]` that is nearest to each of the lines along `steps` `[K, 3]`; the sum is 1."""
    # Evenly spread on the sphere: Gonzalez, "Measurement of areas on a sphere using Fibonacci lattices", 2010.
    numbers = np.arange(DIRECTIONS) + 0.5
    heights, angles = 1 - 2 * numbers / DIRECTIONS, np.pi * (1 + 5**0.5) * numbers
    radii = np.sqrt(1 - heights**2)
    points = np.stack([heights, radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    nearest = np.abs(points @ unit.T).argmax(axis=1)
    return np.bincount(nearest, minlength=len(steps)) / DIRECTIONS


def _cuts(start: np.ndarray, end: np.ndarray, step: Sequence[int], count: int) -> np.ndarray:
    """How often steps (y, x) from a px of `start` to one of `end`, both `[H, W]`, enter or leave each object."""
    here, there = (
        tuple(slice(max(sign * length, 0), min(sign * length, 0) or None) for length in step) for sign in (-1, 1)
    )
    from_, to = start[here], end[there]
    cut = from_ != to
    return np.bincount(from_[cut], minlength=count + 1) + np.bincount(to[cut], minlength=count + 1)


def label_volume(
    volume: Volume,
    positions: Sequence[int],
    files: Sequence[Path],
    out: str | Path,
    slice_distance_nm: float | None = None,
    skipped: int = 0,
    least_iou: float | None = None,
) -> str:
    """Write `out/<volume>.ome.tif`, the label images of a volume's slices, and the table `out/<volume>.csv` of its
    objects. Label images are read one at a time, three times.

    Args:
        positions: of the slices in the volume, from the first to the last.
        files: their label images.
        slice_distance_nm: from one slice of the volume to the next; None when unknown.
        skipped: slices at either end of the volume that none of these stands for.
        least_iou: by which `link_slices` finds the objects; None: an id is one object in all slices.

    Returns:
        A line that says what there is.
    """

    def slices(describe: str) -> Iterator[np.ndarray]:
        for file in tqdm(files, desc=describe, unit="slice"):
            yield read_labels(file)

    if least_iou is None:
        count = max(int(labels.max(initial=0)) for labels in slices("counting objects"))
        linked = [np.arange(count + 1)] * len(files)
    else:
        linked = link_slices(slices("linking slices"), least_iou)
        count = max(int(objects.max()) for objects in linked)

    def relabelled(describe: str) -> Iterator[np.ndarray]:
        return (objects[labels] for objects, labels in zip(linked, slices(describe), strict=True))

    out, name = Path(out), volume.path.stem.removesuffix(".ome")
    out.mkdir(parents=True, exist_ok=True)
    shape = (len(positions), *volume.shape)
    # Where not all slices are labelled, each stands for those between it and the next.
    distance_nm = slice_distance_nm and slice_distance_nm * (volume.slices - 2 * skipped) / len(positions)
    x_nm, y_nm = volume.pixel_size_nm, volume.pixel_size_y_nm or volume.pixel_size_nm
    size = (x_nm, y_nm) if x_nm and y_nm else None
    write_label_volume(out / f"{name}.ome.tif", relabelled("writing the volume"), shape, count, size, distance_nm)
    voxel_um = None
    if distance_nm and size:
        voxel_um = distance_nm / 1e3, size[1] / 1e3, size[0] / 1e3
    solids = measure_solids(relabelled("measuring"), count, voxel_um or (1.0, 1.0, 1.0))
    _write_table(out / f"{name}.csv", solids, positions, known=voxel_um is not None)
    total = f"{solids.volume.sum():.4g} µm³ with {solids.surface.sum():.4g} µm² of surface"
    if voxel_um is None:
        total = "no volume or surface, for the file does not say how large voxels are"
    share = solids.voxels.sum() / np.prod(shape, dtype=np.int64)
    return f"{name}: {count} object{'s' * (count != 1)}, {share:.1%} of the volume, {total}"


def _write_table(path: Path, solids: Solids, positions: Sequence[int], known: bool) -> None:
    """A row an object; volume and surface stay empty where the voxels' size is not known."""
    header = ["id", "voxels", "volume_um3", "surface_um2", "first_slice", "last_slice", "touches_border"]
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for index, voxels in enumerate(solids.voxels):
            sizes = [f"{values[index]:.6g}" if known else "" for values in (solids.volume, solids.surface)]
            ends = [positions[values[index]] for values in (solids.first, solids.last)]
            writer.writerow([index + 1, voxels, *sizes, *ends, int(solids.touches[index])])
