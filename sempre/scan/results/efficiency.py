"""What a path is worth: coverage against area and time, beside what one would do without a plan."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sempre.scan.act.fields import Fields, tiling
from sempre.scan.act.timing import TimingOptions, acquisition_s, travel_times
from sempre.scan.calibration import Calibration

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
