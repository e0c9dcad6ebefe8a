"""A stage that replays a large micrograph as if it were the sample."""

import threading

import numpy as np
from scipy import ndimage

from sempre.images import percentile_normalise
from sempre.scan.act.timing import TimingOptions, travel_times
from sempre.scan.calibration import Calibration
from sempre.scan.stages.stage import StageAborted, StageError


class SimulatedStage:
    """`sempre.scan.stages.stage.Stage` over a micrograph `[H, W]` of any real type, which lies where `calibration`
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
