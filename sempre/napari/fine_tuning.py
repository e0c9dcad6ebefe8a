"""A fine-tuning beside napari: the recipe and then the export, as processes that tell how far they are."""

import importlib.util
import re
import sys
from pathlib import Path

from qtpy.QtCore import QObject, QProcess, QTimer, Signal

import sempre
from sempre.errors import InputError, how_to_install

RECIPE, EXPORT = Path("finetune/dense.py"), Path("tools/export_onnx.py")
PROGRESS = re.compile(r"([^\r\n%]*):\s+\d+%\|[^|\r\n]*\|\s*(\d+)/(\d+)")  # a bar of tqdm
PATIENCE = 30_000  # ms that a cancelled process has to save what it has done


def find_checkout() -> Path | None:
    """The folder with the recipes that this sempre was installed from by `pip install -e`; None if by a wheel, which
    holds the library alone."""
    root = Path(sempre.__file__).parents[1]
    return root if (root / RECIPE).is_file() else None


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
        self.patience.setInterval(PATIENCE)
        self.patience.timeout.connect(self.process.kill)
        self.cancelled = False

    def start(self, checkout: str | Path, data: str | Path, name: str, options: list[str]) -> None:
        """Start `finetune/dense.py` of `checkout` on the labelled set `data` with further `options`, as `key=value`.

        Raises:
            InputError: for a folder without the recipes, an installation without PyTorch, a name that is taken, and
                while one is running.
        """
        if self.running:
            raise InputError("a fine-tuning is running: wait for it, or cancel it")
        self.checkout, self.data = Path(checkout).resolve(), Path(data).resolve()
        if not str(checkout) or not (self.checkout / RECIPE).is_file():
            raise InputError(
                f"'{checkout}' has no {RECIPE.as_posix()}: clone sempre's repository and choose its folder, for the "
                "recipes do not come with pip install"
            )
        if not importlib.util.find_spec("torch"):
            raise InputError(f"fine-tuning needs PyTorch: {how_to_install('train')} where napari is installed")
        if not (self.data / "labels").is_dir():
            raise InputError(f"{data} has no labels: save some micrographs with their labels there first")
        self.run = self.data / "runs" / name
        if (self.run / "bundle").exists():
            raise InputError(f"{self.run} is finished: give another name")
        self.cancelled = False
        if (self.run / "summary.json").exists():
            self._export()
        else:
            self._launch(RECIPE, f"data={self.data}", f"name={name}", *options)

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
        self._launch(EXPORT, f"run={self.run / 'repeat-0'}", f"out={self.run / 'bundle'}")

    def _launch(self, script: Path, *arguments: str) -> None:
        self.script, self.output = script, ""
        self.process.setWorkingDirectory(str(self.data))
        self.process.start(sys.executable, [str(self.checkout / script), *arguments])

    def _read(self) -> None:
        self.output = (self.output + self.process.readAll().data().decode("utf-8", "replace"))[-20_000:]
        bars = PROGRESS.findall(self.output)
        if bars:
            what, done, of = bars[-1]
            self.progressed.emit(what.strip(), int(done), int(of))

    def _ended(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        self.patience.stop()
        if self.cancelled:
            self.failed.emit("cancelled: start it again under the same name to go on")
        elif code or status != QProcess.ExitStatus.NormalExit:
            lines = [line.strip() for line in re.split(r"[\r\n]+", self.output) if line.strip()]
            self.failed.emit(f"{self.script.as_posix()} failed: {lines[-1] if lines else f'exit code {code}'}")
        elif self.script == RECIPE:
            self._export()
        else:
            self.finished.emit(str(self.run / "bundle"))

    def _could_not_start(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.failed.emit(f"{sys.executable} cannot be started: {self.process.errorString()}")
