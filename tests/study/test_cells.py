"""Cells are run once each, go on after a kill, and fail for themselves."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sempre.study.cells import cell_state, run_cells
from sempre.study.results import read_results, result_rows

ROOT = Path(__file__).parents[2]
# What is killed: all cells of the study, as tools/study.py runs them.
RUNNER = """
import pickle, sys
from pathlib import Path
from sempre.study.cells import run_cells
cells = pickle.loads(Path("cells.pickle").read_bytes())
sys.exit(run_cells(cells, Path("runs/s"), Path(sys.argv[1]), parallel=2))
"""


def test_all_cells_run_once_those_that_others_need_first(cells, stubs):
    folder = Path("runs/s")
    assert run_cells(cells, folder, stubs, parallel=4) == 0
    assert {cell_state(folder, cell)[0] for cell in cells} == {"finished"}
    written = {cell: (folder / cell.name / "steps").stat().st_mtime_ns for cell in cells}
    assert run_cells(cells, folder, stubs) == 0
    assert {cell: (folder / cell.name / "steps").stat().st_mtime_ns for cell in cells} == written


def test_a_cell_that_fails_is_missing_with_its_reason_and_tried_again(cells, stubs):
    folder = Path("runs/s")
    own = [cell for cell in cells if cell.name in ("fcmae-atto", "dense-atto-fcmae-0", "dense-atto-none-0")]
    broken = replace(own[0], command=(*own[0].command, "broken=yes"))
    run_cells([broken, *own[1:]], folder, stubs)
    results = {result.cell.name: result for result in read_results(folder, own)}
    assert results["fcmae-atto"].reason == "code 1: error: this cell is broken"
    assert results["dense-atto-fcmae-0"].state == "failed"
    assert results["dense-atto-none-0"].state == "finished"
    assert len(result_rows(list(results.values()), {})) == 3, "none is dropped"

    run_cells(own, folder, stubs)
    assert {result.state for result in read_results(folder, own)} == {"finished"}


def killed_and_started_again(cells, stubs: Path, kills: int, numbers: list[int]) -> list[dict]:
    """The table after so many kills at random moments, by SIGKILL and SIGTERM."""
    draws = random.Random(0)
    slow = [replace(cell, command=(*cell.command, "seconds=0.02")) for cell in cells]
    Path("cells.pickle").write_bytes(pickle.dumps(slow))
    command = [sys.executable, "-c", RUNNER, str(stubs)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while not list(Path("runs").glob("s/*/steps")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(draws.uniform(0, 1))
        if process.poll() is None:
            process.send_signal(draws.choice([signal.SIGKILL, signal.SIGTERM]))
            numbers.append(len(list(Path("runs").glob("s/*/finished"))))
        process.wait()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    return result_rows(read_results(Path("runs/s"), cells), {})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed study leaves its cells running")
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_study_that_is_killed_ends_with_an_equal_table(cells, stubs, kills):
    few = [cell for cell in cells if "pico" not in cell.name] if kills > 2 else cells[:1] + cells[6:10]
    few = [cell for cell in few if not cell.needs or cell.needs in {other.name for other in few}]
    run_cells(few, Path("runs/s"), stubs, parallel=4)
    whole = result_rows(read_results(Path("runs/s"), few), {})
    Path("runs/s").rename("runs/whole")
    numbers = []
    assert killed_and_started_again(few, stubs, kills, numbers) == whole
    assert numbers, "it was killed before it was done"
