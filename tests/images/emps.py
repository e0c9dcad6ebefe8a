"""The labelled micrographs of publications that lie beside a checkout, for tests on real pictures."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2].parent / "shared/data/emps_train"
needs_emps = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"EMPS is not in {FOLDER}")
