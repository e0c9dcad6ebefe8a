"""The files of a scan beside its protocol: the map, the blobs, the curves. Each is whole or absent.

- `scan_map.npy`: priority float32 `[H, W]` in [0, 1]; `scan_map.ome.tif`: the same with its pixel size.
- `quantification.csv`: a row a blob, by falling mean priority, with the columns of `BLOB_COLUMNS`.
- `efficiency.csv`: a row for each field of each path, with the columns of `EFFICIENCY_COLUMNS`.
"""

import csv
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import numpy as np
import tifffile

from sempre.files import ORIGIN, whole_or_absent
from sempre.scan.act.threshold import Blob
from sempre.scan.calibration import Calibration
from sempre.scan.results.efficiency import Curve

BLOB_COLUMNS = (
    "blob",  # numbered from 1 by falling mean priority, so that the last one is their count
    "x_px",  # centroid, from the preview's upper left corner
    "y_px",
    "x_nm",
    "y_nm",
    "stage_x_um",
    "stage_y_um",
    "area_px",
    "area_nm2",
    "equivalent_diameter_px",  # of the disc of the same area
    "equivalent_diameter_nm",
    "mean_priority",
    "particles",  # whose middle lies in it; empty where no bundle was given
)
EFFICIENCY_COLUMNS = (
    "strategy",  # planned, raster, serpentine, random or oracle
    "field",  # how many have been visited
    "area_share",  # of the preview that has been scanned
    "seconds",  # of stage and beam
    "coverage",  # share of the targets that has been seen
)


def write_map(folder: str | Path, priority_map: np.ndarray, pixel_size_nm: float | None) -> None:
    """Write `scan_map.npy` and `scan_map.ome.tif` of a map float32 `[H, W]`."""
    folder = Path(folder)
    priority_map = np.ascontiguousarray(priority_map, np.float32)
    with whole_or_absent(folder / "scan_map.npy") as partial, partial.open("wb") as file:
        np.save(file, priority_map)
    # Of the content, so that the same map gives the same bytes.
    metadata = {"axes": "YX", "Name": "priority", "UUID": str(UUID(bytes=sha256(priority_map.data).digest()[:16]))}
    if pixel_size_nm is not None:
        metadata |= {f"PhysicalSize{axis}": pixel_size_nm for axis in "XY"}
        metadata |= {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    with whole_or_absent(folder / "scan_map.ome.tif") as partial:
        tifffile.imwrite(
            partial, priority_map, ome=True, compression="deflate", metadata=metadata, software=ORIGIN, datetime=False
        )


def write_quantification(
    path: str | Path, blobs: Iterable[Blob], calibration: Calibration, particles: Mapping[int, int] | None = None
) -> None:
    """Write the blobs; `particles` are how many each holds, by its id."""
    nm = calibration.nm_per_px
    rows = []
    for blob in blobs:
        y, x = blob.centroid
        ((stage_x, stage_y),) = calibration.to_stage(np.array([blob.centroid]))
        numbers = (x, y, x * nm, y * nm, stage_x, stage_y)
        rows.append(
            [
                blob.id,
                *(f"{number:.6g}" for number in numbers),
                blob.area,
                f"{blob.area * nm**2:.8g}",
                f"{blob.diameter:.6g}",
                f"{blob.diameter * nm:.6g}",
                f"{blob.priority:.4f}",
                "" if particles is None else particles.get(blob.id, 0),
            ]
        )
    _write_csv(path, BLOB_COLUMNS, rows)


def write_efficiency(path: str | Path, curves: Mapping[str, Curve]) -> None:
    """Write the curves by the name of their strategy."""
    rows = [
        [name, number, f"{area:.5f}", f"{seconds:.3f}", f"{coverage:.5f}"]
        for name, curve in curves.items()
        for number, (area, seconds, coverage) in enumerate(
            zip(curve.area, curve.seconds, curve.coverage, strict=True), start=1
        )
    ]
    _write_csv(path, EFFICIENCY_COLUMNS, rows)


def _write_csv(path: str | Path, columns: tuple[str, ...], rows: list[list]) -> None:
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
