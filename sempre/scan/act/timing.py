"""How long a stage takes from field to field, and the beam for a field."""

from dataclasses import dataclass, field

import numpy as np

from sempre.errors import InputError


@dataclass(kw_only=True)
class TimingOptions:
    speed_um_s: float = 100.0  # of the stage, um per s
    settle_s: float = 0.5  # after each move, until the stage stands still
    backlash_um: float = 1.0  # that the stage goes too far and comes back, when it would arrive from the wrong side
    approach: list[int] = field(default_factory=lambda: [1, 1])  # x, y: 1 to arrive upwards, -1 down, 0 as it comes
    dwell_us: float = 5.0  # of the beam on each px of a field's micrograph
    field_px: int = 512  # side of a field's micrograph


def check_timing(options: TimingOptions) -> None:
    """Raises: InputError for a stage that cannot be."""
    if options.speed_um_s <= 0 or min(options.settle_s, options.backlash_um) < 0:
        raise InputError(
            f"speed_um_s={options.speed_um_s}, settle_s={options.settle_s} or backlash_um={options.backlash_um} "
            "is too small: take a speed above 0, and 0 or more"
        )
    if len(options.approach) != 2 or not set(options.approach) <= {-1, 0, 1}:
        raise InputError(f"approach={options.approach} is no direction: give two of -1, 0 and 1")
    if options.dwell_us <= 0 or not 16 <= options.field_px <= 8192:
        raise InputError(
            f"dwell_us={options.dwell_us} or field_px={options.field_px} cannot be: take above 0, and 16 to 8192"
        )


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
