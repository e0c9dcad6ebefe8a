"""A forked recipe is like one that starts anew."""

import subprocess
import sys

import pytest

SCRIPT = "import multiprocessing, sys; print(multiprocessing.get_start_method(), sys.argv[1:]); sys.exit(75)"


def test_a_fork_starts_workers_and_ends_as_a_new_interpreter_does(tmp_path):
    pytest.importorskip("torch")
    from tests.warm import WarmProcess

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "a=1"]
    anew = subprocess.run(command, capture_output=True, text=True, check=False)
    forked = WarmProcess(command, tmp_path).finish()
    assert (forked.returncode, forked.stdout) == (anew.returncode, anew.stdout)
