"""Stages: what a microscope has to be able to do, its limits, a simulated one, and how one is opened."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from scipy import ndimage

from sempre.errors import InputError
from sempre.images import percentile_normalise, read_micrograph
from sempre.ranges import Positive, PositiveOrZero, Share
from sempre.scan.fields import Fields
from sempre.scan.plan import PlanOptions, TimingOptions, travel_times
from sempre.scan.preview import Calibration, square_pixels


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


class SimulatedStage:
    """`sempre.scan.stages.Stage` over a micrograph `[H, W]` of any real type, which lies where `calibration`
    says.

    Args:
        timing: how fast it moves, settles and arrives.
        drift_nm_s: how far the sample wanders in a second, in a direction drawn by the seed.
        electrons_us: that each px of the brightest grey gets in 1 us: the noise falls as the dwell grows.
        failures: share of the moves that fail.
        latency_s: of each call, beside what moving and scanning take.
        pace: real seconds for each simulated one; 0 does not wait at all.

    `seconds` is the simulated time. The same calls after the same seed give the same micrographs.
    """

    def __init__(
        self,
        sample: np.ndarray,
        calibration: Calibration,
        timing: TimingOptions,
        drift_nm_s: float = 0.0,
        electrons_us: float = 20.0,
        failures: float = 0.0,
        latency_s: float = 0.0,
        pace: float = 0.0,
        seed: int = 0,
    ):
        self.sample = percentile_normalise(sample, 0, 100)
        self.calibration, self.timing = calibration, timing
        self.electrons_us, self.failures, self.latency_s, self.pace = electrons_us, failures, latency_s, pace
        self.seconds = 0.0
        self._random = np.random.default_rng(seed)
        angle = self._random.uniform(0, 2 * np.pi)
        self._drift = drift_nm_s / 1e3 * np.array([np.cos(angle), np.sin(angle)])
        self._at = np.array(calibration.centre_um, np.float64)
        self._stopped = threading.Event()

    def move(self, x_um: float, y_um: float) -> None:
        """Go there; some moves fail, and leave the stage on the way."""
        target = np.array([x_um, y_um], np.float64)
        fails = self._random.random() < self.failures
        times = travel_times(np.stack([self._at, target]), self.timing)
        self._wait(times[0, 1])
        if fails:
            self._at = (self._at + target) / 2
            raise StageError(f"the stage stuck on its way to x={x_um:.2f} y={y_um:.2f} um")
        self._at = target

    def acquire(self, field_um: float, field_px: int, dwell_us: float) -> np.ndarray:
        """A micrograph uint8 `[field_px, field_px]`; beyond the sample it is black."""
        self._wait(dwell_us * 1e-6 * field_px**2)
        (middle,) = self.calibration.to_px((self._at + self._drift * self.seconds)[None])
        side = field_um / self.calibration.um_per_px
        offsets = ((np.arange(field_px) + 0.5) / field_px - 0.5) * side - 0.5
        places = np.meshgrid(middle[0] + offsets, middle[1] + offsets, indexing="ij")
        shown = ndimage.map_coordinates(self.sample, places, order=1, mode="constant")
        dose = self.electrons_us * dwell_us
        grey = self._random.poisson(shown * dose) / dose
        return np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)

    def position(self) -> tuple[float, float]:
        """Where the stage believes to be; the sample's drift is not in it."""
        return float(self._at[0]), float(self._at[1])

    def abort(self) -> None:
        """Stop at once, whoever waits."""
        self._stopped.set()

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait((seconds + self.latency_s) * self.pace):
            raise StageAborted("the stage was told to stop")
        self.seconds += seconds + self.latency_s


SIMULATOR = "simulator"


@dataclass(kw_only=True)
class SimulatorOptions:
    drift_nm_s: PositiveOrZero = 0.0  # simulator: drift of the sample, nm/s
    electrons_us: Positive = 20.0  # simulator: electrons that a bright px gets in 1 us
    failures: Share = 0.0  # simulator: share of the moves that fail
    latency_s: PositiveOrZero = 0.0  # simulator: delay of each command, s
    pace: PositiveOrZero = 0.0  # simulator: real seconds per simulated second; 0: no waiting


@contextmanager
def open_stage(
    driver: str,
    sample: str,
    calibration: Calibration,
    timing: PlanOptions,
    options: SimulatorOptions,
    seed: int = 0,
) -> Iterator[Stage]:
    """The stage of `driver`: `simulator`, over the micrograph `sample`, or `module:Class`, made without arguments.

    Whatever ends the block with an error, Ctrl-C too, aborts the stage.

    Raises:
        InputError: for a driver that is neither.
    """
    if driver == SIMULATOR:
        micrograph = read_micrograph(sample)
        pixels = square_pixels(micrograph.pixels, micrograph.pixel_size)
        # The sample takes the preview's place, however many px show it.
        scale = calibration.shape[1] / pixels.shape[1]
        placed = Calibration(
            pixels.shape,
            calibration.pixel_size_nm * scale,
            calibration.centre_um,
            calibration.rotation_deg,
            calibration.mirrored,
        )
        stage: Stage = SimulatedStage(
            pixels,
            placed,
            timing,
            options.drift_nm_s,
            options.electrons_us,
            options.failures,
            options.latency_s,
            options.pace,
            seed,
        )
    else:
        module, _, name = driver.partition(":")
        try:
            stage = getattr(import_module(module), name)()
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(
                f"driver={driver} is neither {SIMULATOR} nor a class as module:Class that can be imported ({error})"
            ) from error
    try:
        yield stage
    except BaseException:
        stage.abort()
        raise
