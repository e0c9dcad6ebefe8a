"""A fine-tuning beside napari: the recipe and then the export, as processes that tell how far they are."""

import sys
from pathlib import Path

from qtpy.QtCore import QObject, QProcess, QTimer, Signal

from sempre.errors import InputError
from sempre.training.background import EXPORT, PATIENCE, RECIPE, failure_in, progress_in, training_job


class FineTuning(QObject):
    """One fine-tuning of the dense segmenter on a labelled set, and the export of what it gives.

    The run goes to `runs/<name>` in the set's folder. One that was cancelled goes on when the same is started again.

    Signals:
        progressed: what is being done, steps done, steps in all.
        finished: the new bundle's folder.
        failed: why there is none, one line.
    """

    progressed = Signal(str, int, int)
    finished = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None):
        super().__init__(parent)
        self.process = QProcess(self)
        self.process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self.process.readyRead.connect(self._read)
        self.process.finished.connect(self._ended)
        self.process.errorOccurred.connect(self._could_not_start)
        self.patience = QTimer(self)
        self.patience.setSingleShot(True)
        self.patience.setInterval(int(1000 * PATIENCE))
        self.patience.timeout.connect(self.process.kill)
        self.cancelled = False

    def start(self, data: str | Path, name: str, options: list[str]) -> None:
        """Start `finetune/dense.py` on the labelled set `data` with further `options`, as `key=value`.

        Raises:
            InputError: for an installation without PyTorch, a name that is taken, and while one is running.
        """
        if self.running:
            raise InputError("a fine-tuning is running: wait for it, or cancel it")
        self.job = training_job(data, name, options)
        self.cancelled = False
        if self.job.is_trained:
            self._export()
        else:
            self._launch(RECIPE, self.job.recipe)

    @property
    def running(self) -> bool:
        return self.process.state() != QProcess.ProcessState.NotRunning

    def cancel(self) -> None:
        """Let the recipe save and end; where it does not answer within half a minute it is killed."""
        if self.running:
            self.cancelled = True
            self.process.terminate()
            self.patience.start()

    def _export(self) -> None:
        self.progressed.emit("export", 0, 0)
        self._launch(EXPORT, self.job.export)

    def _launch(self, script: Path, command: list[str]) -> None:
        self.script, self.output = script, ""
        self.process.setWorkingDirectory(str(self.job.data))
        self.process.start(command[0], command[1:])

    def _read(self) -> None:
        self.output = (self.output + self.process.readAll().data().decode("utf-8", "replace"))[-20_000:]
        progress = progress_in(self.output)
        if progress:
            self.progressed.emit(*progress)

    def _ended(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        self.patience.stop()
        if self.cancelled:
            self.failed.emit("cancelled: start it again under the same name to go on")
        elif code or status != QProcess.ExitStatus.NormalExit:
            self.failed.emit(failure_in(self.output, self.script, code))
        elif self.script == RECIPE:
            self._export()
        else:
            self.finished.emit(str(self.job.bundle))

    def _could_not_start(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.failed.emit(f"{sys.executable} cannot be started: {self.process.errorString()}")
