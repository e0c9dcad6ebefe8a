"""From priorities to the fields that are visited, in their order, within a time.

An open path for a travelling salesman who does not come home; under a budget it is the orienteering problem
(Vansteenwegen et al., European Journal of Operational Research, 2011). Travel times need not be symmetric.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated

import numpy as np

from sempre.errors import InputError
from sempre.ranges import Items, OneOf, Percent, Positive, PositiveOrZero, Range, ShareBelowOne, check_ranges
from sempre.scan.fields import NOWHERE, RULES, Fields, cover, level
from sempre.scan.patches import Patches
from sempre.scan.preview import Calibration

Approach = Annotated[list[int], Items(2), Range(-1, 1)]


@dataclass(kw_only=True)
class TimingOptions:
    speed_um_s: Positive = 100.0  # speed of the stage, um/s
    settle_s: PositiveOrZero = 0.5  # waiting time after each move, s
    backlash_um: PositiveOrZero = 1.0  # overshoot to arrive from the right side, um
    approach: Approach = field(default_factory=lambda: [1, 1])  # arrival in x, y: 1 upwards, -1 downwards, 0 either
    dwell_us: Positive = 5.0  # dwell time of the beam on each px, us
    field_px: Annotated[int, Range(16, 8192)] = 512  # side of a field's micrograph, px


def travel_times(positions: np.ndarray, options: TimingOptions) -> np.ndarray:
    """Seconds float64 `[N, N]` from each stage position (x, y in um) `[N, 2]` to each, settling included.

    Both axes move together. Where one would arrive against `approach` the stage overshoots by the backlash, settles
    and comes back, so the way there may take longer than the way back. Staying takes no time.
    """
    step = positions[None] - positions[:, None]
    distance = np.hypot(step[..., 0], step[..., 1])
    wrong = (step * np.array(options.approach) < -1e-9).any(axis=-1)
    times = distance / options.speed_um_s + options.settle_s
    times += wrong * (2 * options.backlash_um / options.speed_um_s + options.settle_s) * (options.backlash_um > 0)
    return np.where(distance > 1e-9, times, 0)


def acquisition_s(options: TimingOptions) -> float:
    """Seconds of beam that a field takes."""
    return options.dwell_us * 1e-6 * options.field_px**2


IMPROVEMENT = 1e-9  # s


def has_routing() -> bool:
    """Whether OR-tools is installed (extra `scan`)."""
    return find_spec("ortools") is not None


def shortest_path(times: np.ndarray) -> np.ndarray:
    """An order of the nodes 1 to N that is quick to travel from node 0, of travel times `[N + 1, N + 1]`.

    Nearest neighbour and 2-opt; where OR-tools is installed its local search goes on from there.
    """
    best = two_opt(times, nearest_neighbour(times))
    if has_routing() and len(best) > 3:
        from sempre.scan.routing import route

        routed = two_opt(times, route(times, best))
        best = min((best, routed), key=lambda order: path_time(times, order))
    return best


def best_within(times: np.ndarray, visit: float, prizes: np.ndarray, budget: float) -> np.ndarray:
    """Some of the nodes 1 to N, in order, whose travel and visits take `budget` s or less, with a high sum of prizes.

    Args:
        times: travel times `[N + 1, N + 1]`; the path begins at node 0.
        visit: seconds at each node.
        prizes: `[N]`, above 0.

    Prizes are inserted greedily, and the path is straightened by 2-opt to make room for more; where OR-tools is
    installed its local search goes on from there, and the higher sum counts.
    """
    best = _inserted(times, visit, prizes, budget)
    if has_routing() and len(best) > 1:
        from sempre.scan.routing import route

        routed = two_opt(times, route(times, best, visit, prizes, budget))
        if path_time(times, routed) + visit * len(routed) <= budget:
            best = max((best, routed), key=lambda order: prizes[order - 1].sum())
    return best


def path_time(times: np.ndarray, order: np.ndarray) -> float:
    """Seconds of travel from node 0 through the nodes of `order`."""
    path = np.concatenate([[0], order]).astype(int)
    return float(times[path[:-1], path[1:]].sum())


def nearest_neighbour(times: np.ndarray) -> np.ndarray:
    """From node 0 always to the nearest node that is left."""
    left = np.ones(len(times), bool)
    left[0] = False
    here, order = 0, []
    while left.any():
        here = int(np.where(left, times[here], np.inf).argmin())
        left[here] = False
        order.append(here)
    return np.array(order, int)


def two_opt(times: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The order with its parts turned round as long as that is quicker (Croes, Operations Research, 1958)."""
    path = np.concatenate([[0], order]).astype(int)
    count = len(path)
    if count < 3:
        return path[1:]
    first, last = np.triu_indices(count, 1)
    first, last = first[first > 0], last[first > 0]  # a part from `first` to `last`; node 0 stays
    while True:
        onwards = np.concatenate([[0], np.cumsum(times[path[:-1], path[1:]])])
        back = np.concatenate([[0], np.cumsum(times[path[1:], path[:-1]])])
        ahead = np.append(path, 0)  # behind the end there is nothing to travel to
        ends = last + 1 < count
        before = (
            times[path[first - 1], path[first]]
            + onwards[last]
            - onwards[first]
            + ends * times[path[last], ahead[last + 1]]
        )
        after = (
            times[path[first - 1], path[last]] + back[last] - back[first] + ends * times[path[first], ahead[last + 1]]
        )
        gain = before - after
        if not len(gain) or gain.max() <= IMPROVEMENT:
            return path[1:]
        best = int(gain.argmax())
        path[first[best] : last[best] + 1] = path[first[best] : last[best] + 1][::-1].copy()


def _inserted(times, visit, prizes, budget) -> np.ndarray:
    """Greedy insertion: always the node that brings most for the time that it adds, where it adds least."""
    order = np.zeros(0, int)
    while True:
        grown = _insert_all(times, visit, prizes, budget, order)
        if len(grown) == len(order):
            return order
        order = two_opt(times, grown)


def _insert_all(times, visit, prizes, budget, order) -> np.ndarray:
    order = order.copy()
    used = path_time(times, order) + visit * len(order)
    while True:
        left = np.setdiff1d(np.arange(1, len(times)), order)
        if not len(left):
            return order
        path = np.concatenate([[0], order]).astype(int)
        added = times[path[:, None], left[None]] + visit
        if len(order):
            added[:-1] += times[left[:, None], path[1:]].T - times[path[:-1], path[1:]][:, None]
        place = added.argmin(axis=0)
        cost = added[place, np.arange(len(left))]
        fits = used + cost <= budget
        if not fits.any():
            return order
        worth = np.where(fits, prizes[left - 1] / np.maximum(cost, 1e-9), -np.inf)
        best = int(worth.argmax())
        order = np.insert(order, place[best], left[best])
        used += cost[best]


DEFAULT_SIDE = 64.0  # px

Overlap = Annotated[float, Range(0, 0.4)]


@dataclass(kw_only=True)
class PlanOptions(TimingOptions):
    field_um: PositiveOrZero = 0.0  # side of a field of view, um; 0: 64 px of the preview
    overlap: Overlap = 0.1  # margin of a field that does not count as seen, as share of its side
    threshold: Annotated[str, OneOf(*RULES)] = "otsu"  # threshold of the priority; none: only the budget decides
    quantile: ShareBelowOne = 0.95  # for threshold=quantile: share of the preview below it
    area_percent: Percent = 100.0  # largest part of the preview to scan, %
    minutes: PositiveOrZero = 0.0  # time budget of stage and beam, minutes; 0: no limit

    def side_px(self, calibration: Calibration) -> float:
        """Side of a field of view in px of the preview."""
        return self.field_um / calibration.um_per_px if self.field_um else DEFAULT_SIDE


@dataclass(frozen=True)
class Plan:
    """Fields in the order of their visit, from the stage position `start` (x, y in um)."""

    fields: Fields
    start: np.ndarray
    least: float  # the priority that places had to exceed


def make_plan(
    patches: Patches,
    priority: np.ndarray,
    options: PlanOptions,
    calibration: Calibration,
    start: np.ndarray | None = None,
    visited: np.ndarray = NOWHERE,
    skipped: np.ndarray = NOWHERE,
    spent_s: float = 0.0,
) -> Plan:
    """The fields worth visiting by `priority` `[rows * columns]`, and a quick path from `start`, by default the middle.

    An `area_percent` keeps the most urgent fields; within `minutes` as much priority as can be had on the way. Of a
    scan that is under way, `visited` and `skipped` are the middles (y, x in px) of its fields until now, and `spent_s`
    is what they took of the time.

    Raises:
        InputError: for options that cannot be.
    """
    check_ranges(options)
    if not 0 < options.area_percent <= 100 or options.minutes < 0 or options.field_um < 0:
        raise InputError(
            f"area_percent={options.area_percent}, minutes={options.minutes} or field_um={options.field_um} cannot be: "
            "take a share up to 100, and 0 or more"
        )
    start = np.array(calibration.centre_um if start is None else start, np.float64)
    side = options.side_px(calibration)
    least = level(priority, options.threshold, options.quantile)
    fields = cover(patches, priority, side, options.overlap, least, options.area_percent / 100, visited, skipped)
    positions = np.concatenate([start[None], calibration.to_stage(fields.centres)])
    times = travel_times(positions, options)
    if options.minutes:
        order = best_within(times, acquisition_s(options), fields.priority, options.minutes * 60 - spent_s)
    else:
        order = shortest_path(times)
    return Plan(fields[order - 1], start, least)
