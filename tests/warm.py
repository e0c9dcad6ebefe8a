"""Scripts as processes of their own in which PyTorch and its kin are imported already.

An import takes longer than most of what tests let a recipe do, and they start hundreds. A server that has imported them
forks for each: the script begins anew, as what `python script.py` runs, with its own modules, signals and exit code.
"""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

IMPORTED = [
    "accelerate",
    "h5py",
    "matplotlib.figure",
    "omegaconf",
    "pycocotools.mask",
    "scipy.signal",
    "scipy.stats",
    "skimage.measure",
    "skimage.segmentation",
    "sklearn.cluster",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "tifffile",
    "timm.optim",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "torchvision.models.detection",
    "torchvision.transforms.v2",
]

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(IMPORTED)


class WarmProcess:
    """What `subprocess.Popen(command)` starts, where the command is this Python with a script, or -m and a module, and
    its arguments."""

    def __init__(self, command: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None):
        self.command = command
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        where, environment = cwd or Path.cwd(), dict(env or os.environ)
        self._process = server.Process(target=_begin, args=(command[1:], where, environment, self._outputs))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        if self._process.exitcode:
            print(self._outputs[1].read_text(encoding="utf-8"), file=sys.stderr)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and give what `subprocess.run(…, capture_output=True, text=True)` does."""
        try:
            code = self.wait()
        finally:
            self._process.kill()
        return subprocess.CompletedProcess(
            self.command, code, *(output.read_text(encoding="utf-8") for output in self._outputs)
        )


def run_warm(script: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a script in the folder `cwd`; the finished process, its output as text."""
    return WarmProcess([sys.executable, str(script), *map(str, arguments)], cwd).finish()


def start_two_ranks(command: list[str], cwd: Path) -> list[WarmProcess]:
    """Start a command as two processes of one group, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [WarmProcess(command, cwd, os.environ | group | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]


def _begin(command: list[str], cwd: Path, environment: dict[str, str], outputs: list[Path]) -> None:
    for descriptor, output in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # a child of a forkserver would start its workers by another
    module = command[0] == "-m"
    sys.argv = command[1:] if module else command
    sys.path.insert(0, str(cwd if module else Path(command[0]).parent))
    try:
        if module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which a fork of multiprocessing leaves out
