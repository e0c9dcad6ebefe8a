"""A fine-tuning that a window or a page starts beside itself: the recipe and then the export, as processes.

What both the plugin for napari and the cockpit need stands here, without Qt: the commands, how far the recipe says it
is, and `BackgroundTraining`, which runs them in a thread.
"""

import contextlib
import importlib.util
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from sempre.errors import InputError, how_to_install
from sempre.recipes import FOLDER

RECIPE, EXPORT = Path("finetune/dense.py"), Path("tools/export_onnx.py")
PROGRESS = re.compile(r"([^\r\n%]*):\s+\d+%\|[^|\r\n]*\|\s*(\d+)/(\d+)")  # a bar of tqdm
PATIENCE = 30.0  # s that a cancelled process has to save what it has done
MOST_OUTPUT = 20_000  # characters of a process's output that are kept


@dataclass(frozen=True)
class TrainingJob:
    """A fine-tuning of the dense segmenter on the labelled set `data`, whose run is `run`.

    `recipe` and `export` are the commands, which are run in `data`.
    """

    data: Path
    run: Path
    recipe: list[str]
    export: list[str]

    @property
    def bundle(self) -> Path:
        return self.run / "bundle"

    @property
    def is_trained(self) -> bool:
        """Whether the recipe has finished, so that only the export is left."""
        return (self.run / "summary.json").exists()


def training_job(data: str | Path, name: str, options: list[str]) -> TrainingJob:
    """The commands of `finetune/dense.py` on the labelled set `data`, with `options` as `key=value`.

    The run goes to `runs/<name>` in the set's folder. One that was cancelled goes on when the same is started again.

    Raises:
        InputError: for an installation without PyTorch, a set without labels, and a name that is taken.
    """
    if not importlib.util.find_spec("torch"):
        raise InputError(f"fine-tuning needs PyTorch: {how_to_install('train')} in this environment")
    data = Path(data).resolve()
    if not (data / "labels").is_dir():
        raise InputError(f"{data} has no labels: save some micrographs with their labels there first")
    run = data / "runs" / name
    if (run / "bundle").exists():
        raise InputError(f"{run} is finished: give another name")
    recipe = [sys.executable, str(FOLDER / RECIPE), f"data={data}", f"name={name}", *options]
    export = [sys.executable, str(FOLDER / EXPORT), f"run={run / 'repeat-0'}", f"out={run / 'bundle'}"]
    return TrainingJob(data, run, recipe, export)


def progress_in(output: str) -> tuple[str, int, int] | None:
    """What a process does, the steps it has done and those in all, by its last progress bar; None without one."""
    bars = PROGRESS.findall(output)
    return (bars[-1][0].strip(), int(bars[-1][1]), int(bars[-1][2])) if bars else None


def failure_in(output: str, script: Path, code: int) -> str:
    """One line that says why a process failed: the last line of its output."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output) if line.strip()]
    return f"{script.as_posix()} failed: {lines[-1] if lines else f'exit code {code}'}"


class BackgroundTraining:
    """A job in a thread of its own, started at once.

    `failed` says in one line why there is no bundle; it is empty while the job runs and when the bundle is there.
    """

    def __init__(self, job: TrainingJob):
        self.job, self.failed, self.output = job, "", ""
        self.doing = RECIPE
        self.cancelled = False
        self.process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def running(self) -> bool:
        return self.thread.is_alive()

    def progress(self) -> tuple[str, int, int]:
        """What is being done, the steps done and those in all, which are 0 where nobody knows."""
        if self.doing == EXPORT:
            return "export", 0, 0
        return progress_in(self.output) or ("starting", 0, 0)

    def cancel(self) -> None:
        """Let the recipe save and end; it is killed where it takes longer than half a minute."""
        with self._lock:
            self.cancelled = True
            process = self.process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()

    def _run(self) -> None:
        steps = [] if self.job.is_trained else [(RECIPE, self.job.recipe)]
        for script, command in [*steps, (EXPORT, self.job.export)]:
            self.doing, self.output = script, ""
            try:
                code = self._run_one(command)
            except OSError as error:
                self.failed = f"{command[0]} cannot be started: {error}"
                return
            if self.cancelled:
                self.failed = "cancelled: start it again under the same name to go on"
                return
            if code:
                self.failed = failure_in(self.output, script, code)
                return

    def _run_one(self, command: list[str]) -> int:
        with self._lock:
            if self.cancelled:
                return 1
            self.process = subprocess.Popen(
                command, cwd=self.job.data, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        assert self.process.stdout is not None
        with contextlib.closing(self.process.stdout) as pipe:
            while part := pipe.read1(4096):  # pyright: ignore[reportAttributeAccessIssue]  # of a buffered reader
                self.output = (self.output + part.decode("utf-8", "replace"))[-MOST_OUTPUT:]
        return self.process.wait()
