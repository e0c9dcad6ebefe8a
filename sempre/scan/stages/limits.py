"""Before anything moves: where the stage may go, and what it is about to do."""

import numpy as np

from sempre.errors import InputError
from sempre.scan.act.fields import Fields
from sempre.scan.calibration import Calibration


def check_limits(positions: np.ndarray, limits_um: list[float]) -> None:
    """Check positions (x, y in um) `[N, 2]` against limits (x0, y0, x1, y1 in um).

    Raises:
        InputError: when one is outside, and for limits that are no area.
    """
    if len(limits_um) != 4 or not (limits_um[0] < limits_um[2] and limits_um[1] < limits_um[3]):
        raise InputError(f"limits_um={limits_um} is no area: give [x0,y0,x1,y1] in um")
    low, high = np.array(limits_um[:2]), np.array(limits_um[2:])
    outside = ((positions < low) | (positions > high)).any(axis=1) | ~np.isfinite(positions).all(axis=1)
    if outside.any():
        x, y = positions[outside][0]
        raise InputError(
            f"{int(outside.sum())} of {len(positions)} moves leave limits_um={limits_um}, the first to "
            f"x={x:.3f} y={y:.3f} um: mend centre_um= or the limits"
        )


def list_moves(fields: Fields, calibration: Calibration) -> str:
    """The moves as lines of text: order, stage position in um, priority."""
    stage = calibration.to_stage(fields.centres)
    lines = ["field      x um        y um  priority"]
    lines += [
        f"{order:5d} {x:11.3f} {y:11.3f}  {priority:8.3f}"
        for order, ((x, y), priority) in enumerate(zip(stage, fields.priority, strict=True), start=1)
    ]
    return "\n".join(lines)
