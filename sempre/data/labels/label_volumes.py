"""Label images of a volume's slices as one label volume, its objects measured."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.files import whole_or_absent
from sempre.images import read_labels
from sempre.images.linking import link_slices
from sempre.images.reading.volume import Volume
from sempre.images.solids import Solids, measure_solids
from sempre.images.write import write_label_volume


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
