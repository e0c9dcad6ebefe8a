"""Recipes run in the test's own process: starting one takes longer than most of what tests let it do."""

import atexit
import contextlib
import io
import os
import signal
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path

from sempre.errors import run_command

ROOT = Path(__file__).parents[1]
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


def run_here(script: str | Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the `main` of a recipe, such as "tools/score.py", in the folder `cwd`: its exit code and what it printed.

    What a process of its own would leave to no other is put back: the folder, `sys.argv`, the environment, handlers of
    signals, and accelerate's state. What sempre does at a process's end is done. What workers print is not caught.
    """
    recipe = Path(ROOT / script).relative_to(ROOT).with_suffix("")
    argv = [str(argument) for argument in arguments]
    outputs = io.StringIO(), io.StringIO()
    before = Path.cwd(), sys.argv, dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
    register, at_end = atexit.register, []

    def register_here(function, *given, **named):
        if function.__module__.startswith("sempre."):
            at_end.append(lambda: function(*given, **named))
        else:
            register(function, *given, **named)
        return function

    forget_accelerator()
    try:
        atexit.register = register_here
        os.chdir(cwd)
        sys.argv = [str(ROOT / script), *argv]
        with contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1]):
            code = _exit_code(".".join(recipe.parts), argv)
    finally:
        atexit.register = register
        for function in reversed(at_end):
            function()
        os.chdir(before[0])
        sys.argv = before[1]
        os.environ.clear()
        os.environ.update(before[2])
        for number, handler in zip(SIGNALS, before[3], strict=True):
            signal.signal(number, handler)
        forget_accelerator()
    return subprocess.CompletedProcess([str(script), *argv], code, *(output.getvalue() for output in outputs))


def forget_accelerator() -> None:
    """Let the next recipe begin with other devices or another precision than the last one."""
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


def _exit_code(module: str, argv: list[str]) -> int:
    recipe = import_module(module)
    try:
        # As the recipe's own last line does it.
        getattr(recipe, "run_in_one_process", run_command)(lambda: recipe.main(argv))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception:
        traceback.print_exc()
    return 1
