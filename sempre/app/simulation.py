"""A simulated stage that follows the plan in a thread of its own; the page reads its log."""

import json
import threading
from pathlib import Path

import numpy as np

from sempre.app.scanning import Scan, calibration_of
from sempre.scan.explore import explore
from sempre.scan.stages import SIMULATOR, SimulatorOptions, Stage, open_stage


class PausableStage:
    """A `Stage` that waits before each command while it is paused."""

    def __init__(self, stage: Stage):
        self.stage, self.running = stage, threading.Event()
        self.running.set()

    def move(self, x_um: float, y_um: float) -> None:
        self.running.wait()
        self.stage.move(x_um, y_um)

    def acquire(self, field_um: float, field_px: int, dwell_us: float) -> np.ndarray:
        self.running.wait()
        return self.stage.acquire(field_um, field_px, dwell_us)

    def position(self) -> tuple[float, float]:
        return self.stage.position()

    def abort(self) -> None:
        self.stage.abort()
        self.running.set()


class Simulation:
    """A scan under way: `tools/scan.py driver=simulator go=true`, whose sample is the preview.

    Micrographs and `log.jsonl` go to `folder`.
    """

    def __init__(self, scan: Scan, options: SimulatorOptions, folder: Path):
        self.scan, self.options, self.folder = scan, options, folder
        self.calibration = calibration_of(scan)
        self.stage: PausableStage | None = None
        self.failed: BaseException | None = None
        self.began = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        folder.mkdir(parents=True)
        self.thread.start()
        self.began.wait()

    @property
    def alive(self) -> bool:
        return self.thread.is_alive()

    @property
    def paused(self) -> bool:
        return self.stage is not None and not self.stage.running.is_set()

    def pause(self) -> None:
        self._driven.running.clear()

    def go_on(self) -> None:
        self._driven.running.set()

    def abort(self) -> None:
        self._driven.abort()
        self.thread.join(10)

    def events(self) -> list[dict]:
        """What the log says, but for a line that is being written."""
        log = self.folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def place(self) -> tuple[float, float]:
        """Where the stage is on the preview, y and x in px."""
        ((y, x),) = self.calibration.to_px(np.array([self._driven.position()]))
        return float(y), float(x)

    @property
    def _driven(self) -> PausableStage:
        assert self.stage is not None  # without one it has failed, which is looked at first
        return self.stage

    def _run(self) -> None:
        scan = self.scan
        try:
            with open_stage(
                SIMULATOR, str(scan.file.path), self.calibration, scan.options, self.options, scan.options.seed
            ) as stage:
                self.stage = PausableStage(stage)
                self.began.set()
                explore(
                    self.stage,
                    scan.preview,
                    scan.patches,
                    scan.decision,
                    scan.clicks,
                    self.calibration,
                    scan.options,
                    self.folder / "log.jsonl",
                    micrographs=self.folder / "fields",
                )
        except BaseException as error:  # shown on the page, which is in another thread
            self.failed = error
        finally:
            self.began.set()
