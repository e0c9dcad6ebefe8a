"""How long a stage takes from field to field, and the beam for a field."""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from sempre.ranges import Items, Positive, PositiveOrZero, Range

Approach = Annotated[list[int], Items(2), Range(-1, 1)]


@dataclass(kw_only=True)
class TimingOptions:
    speed_um_s: Positive = 100.0  # of the stage, um per s
    settle_s: PositiveOrZero = 0.5  # after each move, until the stage stands still
    backlash_um: PositiveOrZero = 1.0  # that the stage goes too far and back, where it would arrive from the wrong side
    approach: Approach = field(default_factory=lambda: [1, 1])  # x, y: 1 to arrive upwards, -1 down, 0 as it comes
    dwell_us: Positive = 5.0  # of the beam on each px of a field's micrograph
    field_px: Annotated[int, Range(16, 8192)] = 512  # side of a field's micrograph


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
