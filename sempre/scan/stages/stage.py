"""What a microscope has to be able to do to be driven."""

from typing import Protocol

import numpy as np


class StageError(RuntimeError):
    """A move or an acquisition that failed, and may succeed when it is tried again."""


class StageAborted(RuntimeError):
    """The stage was told to stop: nothing moves any more."""


class Stage(Protocol):
    """A stage with a beam. Positions are um; x and y of the stage, whatever the image's axes are.

    `abort` may be called from another thread at any time: what is under way ends at once, it and all later calls of
    `move` and `acquire` raise `StageAborted`.
    """

    def move(self, x_um: float, y_um: float) -> None:
        """Go there, and return when the stage has settled. Raises: StageError, StageAborted."""

    def acquire(self, field_um: float, field_px: int, dwell_us: float) -> np.ndarray:
        """A micrograph `[field_px, field_px]` of a square of `field_um` about the position, any real type.

        Raises: StageError, StageAborted.
        """
        ...

    def position(self) -> tuple[float, float]:
        """Where the stage is, x and y in um."""
        ...

    def abort(self) -> None:
        """Stop at once."""
