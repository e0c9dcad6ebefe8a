"""The stage that a driver's name means."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from sempre.errors import InputError
from sempre.images import read_micrograph
from sempre.ranges import Positive, PositiveOrZero, Share
from sempre.scan.act.plan import PlanOptions
from sempre.scan.calibration import Calibration
from sempre.scan.preview import square_pixels
from sempre.scan.stages.simulator import SimulatedStage
from sempre.scan.stages.stage import Stage

SIMULATOR = "simulator"


@dataclass(kw_only=True)
class SimulatorOptions:
    drift_nm_s: PositiveOrZero = 0.0  # simulator: how far the sample wanders in a second
    electrons_us: Positive = 20.0  # simulator: that a bright px gets in 1 us of dwell
    failures: Share = 0.0  # simulator: share of the moves that fail
    latency_s: PositiveOrZero = 0.0  # simulator: of each command, s
    pace: PositiveOrZero = 0.0  # simulator: real seconds for each simulated one; 0 does not wait


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
