"""What a planned scan leaves behind: protocol, map, blobs and curves.

- `scan_map.npy`: priority float32 `[H, W]` in [0, 1]; `scan_map.ome.tif`: the same with its pixel size.
- `quantification.csv`: a row a blob, by falling mean priority, with the columns of `BLOB_COLUMNS`.
- `efficiency.csv`: a row for each field of each path, with the columns of `EFFICIENCY_COLUMNS`.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import numpy as np
import tifffile

from sempre.files import ORIGIN, whole_or_absent
from sempre.frozen.encoder import Encoder
from sempre.scan.explore import ExploreOptions
from sempre.scan.fields import Blob, Fields, blobs_of, tiling
from sempre.scan.patches import Patches
from sempre.scan.plan import Plan, TimingOptions, acquisition_s, travel_times
from sempre.scan.preview import Calibration, Preview
from sempre.scan.priorities import Decision
from sempre.scan.protocol import protocol_of, write_protocol

STRATEGIES = ("planned", "raster", "serpentine", "random", "oracle")


@dataclass(frozen=True)
class Targets:
    """What is to be found: points (y, x in px) float64 `[P, 2]` and what each counts `[P]`, 1 together."""

    points: np.ndarray
    weights: np.ndarray

    @classmethod
    def of_priority(cls, centres: np.ndarray, priority: np.ndarray, least: float) -> "Targets":
        """Where the truth is unknown: patches (y, x in px) `[N, 2]` above the priority `least`, by their priority."""
        sought = priority > least
        weights = priority[sought].astype(np.float64)
        return cls(centres[sought], weights / max(weights.sum(), 1e-12))


@dataclass(frozen=True)
class Curve:
    """After each field of a path: the share of the targets seen, of the area scanned, and the seconds gone, `[N]`."""

    coverage: np.ndarray
    area: np.ndarray
    seconds: np.ndarray

    def at_area(self, share: float) -> float:
        """Coverage when no more than a `share` of the area has been scanned."""
        return self._at(self.area, share)

    def at_time(self, seconds: float) -> float:
        """Coverage after so many seconds."""
        return self._at(self.seconds, seconds)

    def _at(self, spent: np.ndarray, limit: float) -> float:
        done = int(np.searchsorted(spent, limit + 1e-9, side="right"))
        return float(self.coverage[done - 1]) if done else 0.0


def follow(
    fields: Fields, calibration: Calibration, timing: TimingOptions, targets: Targets, start: np.ndarray
) -> Curve:
    """The curve of fields visited in their order, from the stage position `start` (x, y in um)."""
    if not len(fields):
        return Curve(*np.zeros((3, 0)))
    positions = np.concatenate([start[None], calibration.to_stage(fields.centres)])
    travel = np.concatenate([travel_times(pair, timing)[:1, 1] for pair in _pairs(positions)])
    covered, area = np.zeros(calibration.shape, bool), []
    scanned = 0
    for window in fields.windows(calibration.shape):
        scanned += int(covered[window].size - np.count_nonzero(covered[window]))
        covered[window] = True
        area.append(scanned / covered.size)
    seen = np.maximum.accumulate(fields.contain(targets.points), axis=0)
    return Curve(seen @ targets.weights, np.array(area), np.cumsum(travel + acquisition_s(timing)))


def compare(
    planned: Fields,
    calibration: Calibration,
    timing: TimingOptions,
    targets: Targets,
    start: np.ndarray,
    overlap: float = 0.1,
    seed: int = 0,
) -> dict[str, Curve]:
    """Curves of the plan and of paths over the whole preview by fields of the same size.

    `raster` goes row by row from the left, `serpentine` every second row back, `random` in an order drawn by the seed;
    `oracle` knows the targets and takes the fields first that show most of them, wherever they are.
    """
    tiles, columns = tiling(calibration.shape, planned.side, overlap)
    order = np.arange(len(tiles)).reshape(-1, columns)
    snake = order.copy()
    snake[1::2] = snake[1::2, ::-1]
    orders = {
        "raster": order.ravel(),
        "serpentine": snake.ravel(),
        "random": np.random.default_rng(seed).permutation(len(tiles)),
        "oracle": most_first(tiles.contain(targets.points), targets.weights),
    }
    paths: Mapping[str, Fields] = {"planned": planned} | {name: tiles[chosen] for name, chosen in orders.items()}
    return {name: follow(fields, calibration, timing, targets, start) for name, fields in paths.items()}


def most_first(shown: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An order of fields of which `shown` `[N, P]` says what they show: each adds as much weight `[P]` as it can."""
    left, order = weights.astype(np.float64).copy(), []
    rest = np.ones(len(shown), bool)
    while rest.any():
        best = int(np.where(rest, shown @ left, -1).argmax())
        rest[best] = False
        left[shown[best]] = 0
        order.append(best)
    return np.array(order, int)


def _pairs(positions: np.ndarray):
    return (positions[index : index + 2] for index in range(len(positions) - 1))


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


@dataclass(frozen=True)
class Outcome:
    """The priority of every px float32 `[H, W]`, labels int32 `[H, W]` of its blobs, the blobs, the protocol as JSON
    holds it, and the efficiency curves by strategy."""

    priority_map: np.ndarray
    labels: np.ndarray
    blobs: list[Blob]
    protocol: dict
    curves: dict[str, Curve]
    calibration: Calibration


def outcome_of(
    preview: Preview,
    patches: Patches,
    decision: Decision,
    plan: Plan,
    encoder: Encoder,
    calibration: Calibration,
    options: ExploreOptions,
) -> Outcome:
    """All that is written of a plan, which `decision` was made for by what `encoder` saw."""
    priority_map = patches.to_map(decision.priority)
    labels, blobs = blobs_of(priority_map, plan.least, gap=options.stride)
    protocol = protocol_of(plan, preview, calibration, options, how(encoder, decision, options))
    targets = Targets.of_priority(patches.centres, decision.priority, plan.least)
    curves = compare(plan.fields, calibration, options, targets, plan.start, options.overlap, options.seed)
    return Outcome(priority_map, labels, blobs, protocol, curves, calibration)


def how(encoder: Encoder, decision: Decision, options: ExploreOptions) -> dict:
    """How priorities came about, for the protocol."""
    return {
        "backbone": encoder.name,
        "encoder_sha256": encoder.checksum,
        "layer": encoder.layer,
        "scales_px": list(options.scales),
        "stride_px": options.stride,
        "anomaly": options.anomaly,
        "weights": decision.weights,
        "text": list(options.text),
        "without": list(options.without),
        "seed": options.seed,
    }


def write_outcome(folder: str | Path, outcome: Outcome, particles: Mapping[int, int] | None = None) -> None:
    """Write `scan_protocol.json`, the map, `quantification.csv` and `efficiency.csv`, each whole or absent.

    `particles` are how many lie in each blob, by its id.
    """
    folder = Path(folder)
    write_protocol(folder / "scan_protocol.json", outcome.protocol)
    write_map(folder, outcome.priority_map, outcome.calibration.pixel_size_nm)
    write_quantification(folder / "quantification.csv", outcome.blobs, outcome.calibration, particles)
    write_efficiency(folder / "efficiency.csv", outcome.curves)
