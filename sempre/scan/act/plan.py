"""Act, as a whole: from priorities to the fields that are visited, in their order."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from sempre.errors import InputError
from sempre.ranges import OneOf, Percent, PositiveOrZero, Range, ShareBelowOne, check_ranges
from sempre.scan.act.fields import NOWHERE, Fields, cover
from sempre.scan.act.path import best_within, shortest_path
from sempre.scan.act.threshold import RULES, level
from sempre.scan.act.timing import TimingOptions, acquisition_s, travel_times
from sempre.scan.calibration import Calibration
from sempre.scan.think.patches import Patches

DEFAULT_SIDE = 64.0  # px

Overlap = Annotated[float, Range(0, 0.4)]


@dataclass(kw_only=True)
class PlanOptions(TimingOptions):
    field_um: PositiveOrZero = 0.0  # side of a field of view, um; 0: 64 px of the preview
    overlap: Overlap = 0.1  # share of a field's side within its border that does not count as shown
    threshold: Annotated[str, OneOf(*RULES)] = "otsu"  # none where a budget alone decides
    quantile: ShareBelowOne = 0.95  # for threshold=quantile: the share of the preview below it
    area_percent: Percent = 100.0  # of the preview that may be scanned
    minutes: PositiveOrZero = 0.0  # of stage and beam that may be spent; 0: as long as it takes

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
