"""A chain of recipes, each run once, and what fits into a budget of minutes."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sempre.errors import InputError
from sempre.files import write_json
from sempre.training.run_folder import open_run, read_log, set_aside_if_changed

Result = TypeVar("Result")


class Stages:
    """Commands that are done once: what has finished, and how long it took, is kept in the file at `path`.

    Scripts are named by their paths relative to `root`.
    """

    def __init__(self, path: Path, root: Path):
        self.path, self.root = path, root
        state = json.loads(path.read_text()) if path.exists() else {"seconds": {}, "results": {}}
        self.seconds, self.results = state["seconds"], state["results"]

    def run(self, stage: str, *command: str) -> None:
        """Run a Python script or `-m module` with its arguments, unless it has finished before."""
        self.run_together(stage, [command])

    def run_together(self, stage: str, commands: Sequence[Sequence[str]]) -> None:
        """Run several at the same time, each with its share of the cores; the stage has finished when all have.

        Raises:
            InputError: when one fails; its own message stands above.
        """
        if stage in self.seconds:
            return
        environment = dict(os.environ)
        if len(commands) > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(commands)))
        start = time.monotonic()
        processes = []
        for number, command in enumerate(commands):
            print(f"\n[{stage}] python {shlex.join(command)}", flush=True)
            script = list(command) if command[0] == "-m" else [str(self.root / command[0]), *command[1:]]
            # Each has a line of its own for its progress bar.
            environment = environment | {"TQDM_POSITION": str(number)}
            processes.append(subprocess.Popen([sys.executable, *script], env=environment))
        try:
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.terminate()
        if any(codes):
            raise InputError(f"the stage '{stage}' ended with code {max(codes, key=abs)}: see above, then start again")
        self.seconds[stage] = time.monotonic() - start
        self._save()

    def once(self, stage: str, compute: Callable[[], Result]) -> Result:
        """The result (JSON) of `compute`, remembered."""
        if stage not in self.results:
            self.results[stage] = compute()
            self._save()
        return self.results[stage]

    def _save(self) -> None:
        write_json(self.path, {"seconds": self.seconds, "results": self.results})


def begin_stages(options: object, name: str, root: Path) -> tuple[Path, Stages]:
    """The folder `runs/<name>` and its stages, begun or gone on with; one of other options is set aside."""
    folder = Path("runs") / name
    set_aside_if_changed(folder, options)
    open_run(folder, options)
    return folder, Stages(folder / "stages.json", root)


def folder_name(title: str) -> str:
    """The folder of what has this title in a report: `Otsu + watershed` lies in `otsu_watershed`."""
    return "_".join(title.lower().replace("+", "").split())


def seconds_a_step(run: Path) -> float:
    """Of the second half of the training in the folder `run`; the first steps are slower."""
    lines = [line for line in read_log(run / "log.jsonl") if line["kind"] == "train"]
    middle = lines[(len(lines) - 1) // 2]
    return (lines[-1]["time"] - middle["time"]) / (lines[-1]["step"] - middle["step"])


def last_step(run: Path) -> int:
    """Steps that the training in the folder `run` has done."""
    return read_log(run / "log.jsonl")[-1]["step"]
