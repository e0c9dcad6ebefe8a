"""A batch that is killed again and again ends as one that is left alone: a small version of tools/soak.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import bright_box_model, write_bundle

pytestmark = pytest.mark.long


SCRIPT = Path(__file__).parents[2] / "tools/soak.py"


def test_a_killed_batch_ends_as_one_left_alone(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", bright_box_model())
    options = [f"out={tmp_path / 'soak'}", f"model={bundle}", "micrographs=24", "fields=3", "large=0", "kills=2"]
    finished = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert re.search(r"memory at most [1-9]\d*(, [1-9]\d*)+ MB", finished.stdout), finished.stdout
    assert re.search("killed [12] times, 0 files differ", finished.stdout), finished.stdout + finished.stderr
    summary = (tmp_path / "soak/killed/small/summary.csv").read_text().splitlines()
    assert len(summary) == 1 + 24
